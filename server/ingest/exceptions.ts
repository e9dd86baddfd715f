// Exceptions and stacks of an event, in the few fields that titles, culprits and grouping need. "List order: oldest cause
// first, thrown exception last"; frames: "oldest caller first, crash frame last". Any of it may be null.

import { type JsonObject, objectFrom, textFrom, valuesFrom } from './values.ts'

const maxExceptions = 50
const maxThreads = 500
const maxFrames = 250

export interface Frame {
  module: string | null
  function: string | null
  filename: string | null
  in_app: boolean
  lineno: unknown
}

export interface Exception {
  type: string | null
  value: string | null
  synthetic: boolean
  mechanism: string | null
  handled: boolean | null
  frames: Frame[]
}

export function exceptionsFrom(event: JsonObject): Exception[] {
  const exceptions: Exception[] = []
  for (const raw of valuesFrom(event.exception ?? event['sentry.interfaces.Exception'], maxExceptions)) {
    const mechanism = objectFrom(raw.mechanism)
    const exception: Exception = {
      type: textFrom(raw.type, 256),
      value: valueText(raw.value),
      synthetic: mechanism?.synthetic === true,
      mechanism: textFrom(mechanism?.type, 200),
      handled: typeof mechanism?.handled === 'boolean' ? mechanism.handled : null,
      frames: framesFrom(raw.stacktrace),
    }
    if (exception.type !== null || exception.value !== null || exception.frames.length > 0) exceptions.push(exception)
  }
  const only = exceptions.length === 1 ? exceptions[0]! : null
  if (only !== null && only.frames.length === 0) only.frames = stackFrom(event)
  return exceptions
}

/** The stack of an event outside its exceptions: its own, or that of the one thread that crashed, or is current, or is alone. */
export function stackFrom(event: JsonObject): Frame[] {
  const own = framesFrom(event.stacktrace ?? event['sentry.interfaces.Stacktrace'])
  if (own.length > 0) return own
  const threads = valuesFrom(event.threads, maxThreads)
  for (const chosen of [
    threads.filter((t) => t.crashed === true),
    threads.filter((t) => t.current === true),
    threads,
  ]) {
    if (chosen.length === 1) return framesFrom(chosen[0]!.stacktrace)
  }
  return []
}

/** JS v11's captureMessage attaches an exception without a type whose value is the message: the message says it better. */
export function withoutEchoes(exceptions: Exception[], hasMessage: boolean): Exception[] {
  if (!hasMessage) return exceptions
  return exceptions.filter((exception) => exception.type !== null || !exception.synthetic)
}

export function crashFrame(frames: Frame[]): Frame | null {
  return frames.findLast((frame) => frame.in_app) ?? frames.at(-1) ?? null
}

function framesFrom(stacktrace: unknown): Frame[] {
  const list = objectFrom(stacktrace)?.frames
  if (!Array.isArray(list)) return []
  const frames: Frame[] = []
  for (const raw of valuesFrom(list, maxFrames)) {
    const filename = textFrom(raw.filename, 1024)
    const path = textFrom(raw.abs_path, 1024) ?? filename
    frames.push({
      module: textFrom(raw.module, 256),
      function: textFrom(raw.function, 256),
      filename: filename ?? path,
      in_app: raw.in_app !== false && (path === null || !isLibrary(path)),
      lineno: raw.lineno,
    })
  }
  return frames
}

// Forced out of the app even where the SDK says in_app: bundled servers flag everything.
const library =
  /node_modules\/|^node:|\/(?:site|dist)-packages\/|\/lib\/python3|\/gems\/|\/go\/pkg\/mod\/|^\/rustc\/|^[a-z-]+-extension:/

function isLibrary(path: string): boolean {
  return library.test(path)
}

function valueText(value: unknown): string | null {
  if (typeof value === 'object' && value !== null) return textFrom(JSON.stringify(value), 8192)
  return textFrom(value, 8192)
}
