// The grouping key of an event; pure. First of: the client's fingerprint, exception types with their in-app frames, exception
// types with their parameterised values, a bare stack, the parameterised message. Never part of it: level, environment,
// release, tags, user, server, line numbers, absolute paths, ids. The hash is sha256 over the JSON of the components, so that
// the borders between parts count: ["ab","c"] is not ["a","bc"].

import { createHash } from 'node:crypto'
import type { Exception, Frame } from './exceptions.ts'
import type { Message } from './message.ts'
import { parameterised } from './parameterise.ts'
import { textFrom } from './values.ts'

const maxFrames = 50
const maxParts = 100

export interface Grouped {
  /** As sent. */
  fingerprint: unknown
  exceptions: Exception[]
  stack: Frame[]
  message: Message | null
  logger: string | null
  transaction: string | null
}

export type Components = (string | Components)[]

/** The name of these rules, kept with every hash. Another result for any event needs another name. */
export const groupingAlgo = 'g1'

export interface Grouping {
  /** 32 lower-case hex each: the first that a project knows names the issue. Never empty. */
  hashes: string[]
  /** JSON text of what each of the hashes is of. */
  components: string[]
  grouping_algo: string
}

export function fingerprintOf(event: Grouped): Grouping {
  const components = JSON.stringify(componentsOf(event))
  const hash = createHash('sha256').update(components).digest('hex').slice(0, 32)
  return { hashes: [hash], components: [components], grouping_algo: groupingAlgo }
}

function componentsOf(event: Grouped): Components {
  const parts = customParts(event.fingerprint)
  if (parts.length === 0 || (parts.length === 1 && isDefault(parts[0]!))) return defaultComponents(event)
  if (!parts.some(isDefault)) return ['fp', ...parts]
  return ['mix', ...parts.map((part) => (isDefault(part) ? defaultComponents(event) : part))]
}

/** "List; elements string/number/bool, others dropped; [] or non-list = none." */
function customParts(fingerprint: unknown): string[] {
  if (!Array.isArray(fingerprint)) return []
  return fingerprint
    .slice(0, maxParts)
    .map((part) => textFrom(part, 1024))
    .filter((part) => part !== null)
}

function isDefault(part: string): boolean {
  return /^\{\{\s*default\s*\}\}$/.test(part)
}

function defaultComponents(event: Grouped): Components {
  if (event.exceptions.length > 0) return event.exceptions.map(exceptionComponents)
  const frames = event.message === null ? frameComponents(event.stack) : []
  if (frames.length > 0) return ['stack', frames]
  if (event.message !== null) return ['msg', parameterised(event.message.template)]
  return ['none', event.logger ?? '', event.transaction ?? '']
}

function exceptionComponents(exception: Exception): Components {
  const frames = frameComponents(exception.frames)
  if (frames.length > 0) return ['exc', exception.synthetic ? '' : (exception.type ?? ''), frames]
  return ['exc', exception.type ?? '', parameterised(exception.value ?? '')]
}

function frameComponents(frames: Frame[]): Components {
  const app = contributing(frames.filter((frame) => frame.in_app))
  return app.length > 0 ? app : contributing(frames)
}

/** Frames as [where, function]; runs of one frame, as recursion makes them, count once. */
function contributing(frames: Frame[]): [string, string][] {
  const parts: [string, string][] = []
  for (const frame of frames) {
    if (isNative(frame)) continue
    const where = frame.module ?? baseName(frame.filename ?? '')
    const name = functionName(frame.function ?? '')
    const before = parts.at(-1)
    if ((where === '' && name === '') || (before?.[0] === where && before[1] === name)) continue
    parts.push([where, name])
  }
  return parts.slice(-maxFrames)
}

function isNative(frame: Frame): boolean {
  return frame.filename === '[native code]' || frame.filename === '<anonymous>' || frame.function === 'eval'
}

/** The file's own name: directories hold versions and deploy dates, queries hold cache busters. */
function baseName(filename: string): string {
  const path = filename.replace(/[?#].*$/s, '')
  return path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1).toLowerCase()
}

/** V8 writes one function as `async Foo.bar`, `new Foo`, `Foo.bar [as baz]`. */
function functionName(name: string): string {
  if (name === '?' || name === '<anonymous>') return ''
  return name.replace(/^(?:async |new )+/, '').replace(/ \[as [^\]]*\]$/, '')
}
