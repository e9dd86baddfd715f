// Exceptions and stacks of an event, in the few fields that titles, culprits and grouping need. "List order: oldest cause
// first, thrown exception last". Any of it may be null.

import { type Frame, framesFrom } from './frames.ts'
import { type JsonObject, objectFrom, textFrom, valuesFrom } from './values.ts'

const maxExceptions = 50
const maxThreads = 500

export interface Exception {
  type: string | null
  value: string | null
  synthetic: boolean
  mechanism: string | null
  handled: boolean | null
  /** Of the mechanism: its place in the tree of an exception group. */
  exception_id: number | null
  parent_id: number | null
  is_exception_group: boolean
  frames: Frame[]
}

export function exceptionsFrom(event: JsonObject): Exception[] {
  const platform = textFrom(event.platform, 64)
  const exceptions: Exception[] = []
  const threadIds: unknown[] = []
  for (const raw of valuesFrom(event.exception ?? event['sentry.interfaces.Exception'], maxExceptions)) {
    const exception = exceptionFrom(raw, platform)
    if (exception.type === null && exception.value === null && exception.frames.length === 0) continue
    exceptions.push(exception)
    threadIds.push(raw.thread_id)
  }
  if (exceptions.some((exception) => exception.frames.length === 0))
    borrowStacks(event, exceptions, threadIds, platform)
  return exceptions
}

function exceptionFrom(raw: JsonObject, platform: string | null): Exception {
  const mechanism = objectFrom(raw.mechanism)
  return {
    type: textFrom(raw.type, 256),
    value: valueText(raw.value),
    synthetic: mechanism?.synthetic === true,
    mechanism: textFrom(mechanism?.type, 200),
    handled: typeof mechanism?.handled === 'boolean' ? mechanism.handled : null,
    exception_id: idFrom(mechanism?.exception_id),
    parent_id: idFrom(mechanism?.parent_id),
    is_exception_group: mechanism?.is_exception_group === true,
    frames: framesFrom(raw.stacktrace, platform),
  }
}

/** "If the exception has no stacktrace but `thread_id` (or exactly one crashed/current thread) has one, use that." */
function borrowStacks(event: JsonObject, exceptions: Exception[], threadIds: unknown[], platform: string | null) {
  const threads = valuesFrom(event.threads, maxThreads)
  for (const [index, exception] of exceptions.entries()) {
    const id = textFrom(threadIds[index], 64)
    if (exception.frames.length > 0 || id === null) continue
    const own = threads.find((thread) => textFrom(thread.id, 64) === id)
    exception.frames = framesFrom(own?.stacktrace, platform)
  }
  // A stack that names no exception is that of the one that was thrown, unless another has one of its own.
  if (exceptions.every((exception) => exception.frames.length === 0)) exceptions.at(-1)!.frames = stackFrom(event)
}

/** The stack of an event outside its exceptions: its own, or that of the one thread that crashed, or is current, or is alone. */
export function stackFrom(event: JsonObject): Frame[] {
  const platform = textFrom(event.platform, 64)
  const own = framesFrom(event.stacktrace ?? event['sentry.interfaces.Stacktrace'], platform)
  if (own.length > 0) return own
  const threads = valuesFrom(event.threads, maxThreads)
  for (const chosen of [
    threads.filter((thread) => thread.crashed === true),
    threads.filter((thread) => thread.current === true),
    threads,
  ]) {
    if (chosen.length === 1) return framesFrom(chosen[0]!.stacktrace, platform)
  }
  return []
}

/** JS v11's captureMessage attaches an exception without a type whose value is the message: the message says it better. */
export function withoutEchoes(exceptions: Exception[], hasMessage: boolean): Exception[] {
  if (!hasMessage) return exceptions
  return exceptions.filter((exception) => exception.type !== null || !exception.synthetic)
}

function idFrom(value: unknown): number | null {
  return typeof value === 'number' && Number.isInteger(value) ? value : null
}

function valueText(value: unknown): string | null {
  if (typeof value === 'object' && value !== null) return textFrom(JSON.stringify(value), 8192)
  return textFrom(value, 8192)
}
