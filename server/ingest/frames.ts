// The frames of a stack, in the fields that titles, culprits and grouping need. "Oldest caller first, crash frame last";
// any of them may be null.

import { type Family, familyOf } from './platforms.ts'
import { type JsonObject, objectFrom, textFrom } from './values.ts'

/** "Keep first 25 + last 225 when > 250." */
const firstFrames = 25
const lastFrames = 225

export interface Frame {
  family: Family
  module: string | null
  function: string | null
  filename: string | null
  /** As sent; `filename` stands in for it. */
  abs_path: string | null
  in_app: boolean
  /** As sent, for what only one frame of a stack is asked for. */
  raw: JsonObject
}

export function framesFrom(stacktrace: unknown, platform: string | null): Frame[] {
  const list = objectFrom(stacktrace)?.frames
  if (!Array.isArray(list)) return []
  const frames: Frame[] = []
  const middle = list.length > firstFrames + lastFrames ? list.length - lastFrames : firstFrames
  for (let i = 0; i < list.length; i++) {
    if (i === firstFrames) i = middle
    const raw = objectFrom(list[i])
    if (raw !== null) frames.push(frameFrom(raw, platform))
  }
  return frames
}

function frameFrom(raw: JsonObject, platform: string | null): Frame {
  const filename = textFrom(raw.filename, 1024)
  const abs_path = textFrom(raw.abs_path, 1024) ?? filename
  return {
    family: familyOf(textFrom(raw.platform, 64) ?? platform, filename ?? abs_path),
    module: textFrom(raw.module, 256),
    function: textFrom(raw.function, 256),
    filename: filename ?? abs_path,
    abs_path,
    in_app: raw.in_app !== false && !isLibrary(abs_path) && (filename === abs_path || !isLibrary(filename)),
    raw,
  }
}

// Forced out of the app even where the SDK says in_app: bundled servers flag everything, browsers flag extensions.
const library =
  /node_modules[/\\]|^node:|[/\\](?:site|dist)-packages[/\\]|^(?:site|dist)-packages[/\\]|[/\\]lib[/\\]python3|[/\\]gems[/\\]|[/\\]go[/\\]pkg[/\\]mod[/\\]|^\/rustc\/|^(?:[a-z]+-)+extension:|^webkit-masked-url:/

function isLibrary(path: string | null): boolean {
  return path !== null && library.test(path)
}

export function crashFrame(frames: Frame[]): Frame | null {
  return frames.findLast((frame) => frame.in_app) ?? frames.at(-1) ?? null
}
