// A stack as components: [place, function] of each frame that contributes, and of the crash frame the text of its line.

import type { Frame } from '../frames.ts'
import { textFrom } from '../values.ts'
import { functionName } from './functions.ts'
import { isUrl, placeOf } from './places.ts'

const maxFrames = 50
/** "≤ 120 chars": longer ones are minified, or data. */
const maxLine = 120

/** Of a stack the frames in the app, or where none of these counts, all; the second joins events whose SDKs differ about that. */
export type Variant = 'app' | 'system'

export type StackPart = [place: string, name: string] | ['@', line: string]

interface Read {
  frame: Frame
  place: string
  name: string
}

/** The frames that may count, read once for both variants. */
function readFrames(frames: Frame[]): Read[] {
  const read: Read[] = []
  for (const frame of frames) {
    if (isRuntime(frame)) continue
    const name = functionName(frame)
    if (isMinified(frame, name)) continue
    const place = placeOf(frame)
    if (place !== '' || name !== '') read.push({ frame, place, name })
  }
  return read
}

export function stackVariants(frames: Frame[]): Record<Variant, StackPart[]> {
  const read = readFrames(frames)
  const app = read.filter(({ frame }) => frame.in_app)
  const system = partsOf(read)
  return { app: app.length === 0 || app.length === read.length ? system : partsOf(app), system }
}

/** From the crash back, because what is deeper than the limit is left out. */
function partsOf(read: Read[]): StackPart[] {
  const parts: StackPart[] = []
  for (let i = read.length - 1; i >= 0 && parts.length < maxFrames; i--) {
    const { place, name } = read[i]!
    const after = parts.at(-1)
    // Recursion counts once, however deep it went and whichever of its lines it went through.
    if (after?.[0] !== place || after[1] !== name) parts.push([place, name])
  }
  parts.reverse()
  const line = read.length === 0 ? null : lineOf(read.at(-1)!.frame)
  if (line !== null) parts.push(['@', line])
  return parts
}

/** Frames of the engine itself, which each browser shows in its own way. */
function isRuntime({ filename, function: name, family }: Frame): boolean {
  return (
    filename === '[native code]' ||
    filename === 'native' ||
    filename === '<anonymous>' ||
    name === '[native code]' ||
    (family === 'javascript' && name === 'eval')
  )
}

/**
 * A browser's frame in a bundle, of which the next build makes another: names of one or two letters, or a place far right in
 * one of the first lines.
 */
function isMinified(frame: Frame, name: string): boolean {
  if (frame.family !== 'javascript' || !isUrl(frame.abs_path) || isSymbolicated(frame)) return false
  if (name.length <= 2) return true
  const { lineno, colno } = frame.raw
  return typeof lineno === 'number' && typeof colno === 'number' && lineno <= 20 && colno >= 300
}

function isSymbolicated({ raw }: Frame): boolean {
  const data = raw.data as { symbolicated?: unknown; sourcemap?: unknown } | null | undefined
  return data?.symbolicated === true || typeof data?.sourcemap === 'string'
}

/** Only where SDKs send source text as it runs. */
function lineOf(frame: Frame): string | null {
  const { family } = frame
  if (family !== 'javascript' && family !== 'python' && family !== 'php' && family !== 'ruby') return null
  const line = textFrom(frame.raw.context_line, 1024)
  if (line === null || line.includes('{snip}')) return null
  const plain = /[^\S ]|\s\s/.test(line) ? line.replace(/\s+/g, ' ') : line
  return plain.length > maxLine ? null : plain
}
