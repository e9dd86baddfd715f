// How much of an event is kept; ARCHITECTURE.md has the same table. Numbers are UTF-16 units of text, as SDKs count. What is
// beyond is cut or left out, and the event says so in `errors`; it is never refused for it.

import { cut, type JsonObject } from './values.ts'

export const limits = {
  message: 8192,
  exceptions: 50,
  exceptionType: 256,
  exceptionValue: 8192,
  /** Of one stack: the first, where it began, and the last, where it ended. */
  framesFirst: 25,
  framesLast: 225,
  /** Frames nearest the crash that keep their variables and the lines around theirs. */
  framesWithContext: 50,
  /** A name or a line of source in a frame. */
  frameText: 1024,
  frameVars: 16_384,
  threads: 500,
  breadcrumbs: 100,
  breadcrumbsTotal: 65_536,
  tags: 200,
  tagKey: 200,
  tagValue: 200,
  extraValue: 16_384,
  extraTotal: 262_144,
  context: 8192,
  contexts: 100,
  /** Levels of objects and lists within free data. */
  depth: 7,
  user: 8192,
  requestData: 8192,
  requestUrl: 2048,
  requestPart: 8192,
  modules: 8192,
  fingerprint: 100,
  fingerprintPart: 1024,
  images: 1000,
  errors: 100,
} as const

export const ellipsis = '...'

/** Cut so that people see that it was. */
export function shortened(text: string, most: number): string {
  return text.length <= most ? text : cut(text, most - ellipsis.length) + ellipsis
}

/** What a value costs of a budget: about the characters of its JSON. */
interface Budget {
  left: number
  cut: boolean
}

/**
 * The value with at most `most` characters and `depth` levels: texts are cut, entries beyond are left out, and what lies too
 * deep is a word. In place; a value that fits is returned as it is.
 */
export function bounded(value: unknown, most: number, depth: number): { value: unknown; cut: boolean } {
  const budget = { left: most, cut: false }
  return { value: fit(value, budget, depth), cut: budget.cut }
}

/** Costs of an entry besides its text: quotes, comma, colon. */
const entryCost = 4

function fit(value: unknown, budget: Budget, depth: number): unknown {
  if (typeof value === 'string') {
    if (value.length > budget.left) {
      budget.cut = true
      const short = budget.left > ellipsis.length ? shortened(value, budget.left) : ''
      budget.left = 0
      return short
    }
    budget.left -= value.length
    return value
  }
  if (typeof value !== 'object' || value === null) {
    budget.left -= 8
    return value
  }
  if (depth === 0) {
    budget.cut = true
    return fit(Array.isArray(value) ? '[Array]' : '[Object]', budget, depth)
  }
  return Array.isArray(value) ? fitList(value, budget, depth) : fitObject(value as JsonObject, budget, depth)
}

function fitList(list: unknown[], budget: Budget, depth: number): unknown[] {
  for (let i = 0; i < list.length; i++) {
    budget.left -= entryCost
    if (budget.left <= 0) {
      // A list of two reads as a name and its value, which this is not.
      list.length = i === 2 ? 1 : i
      budget.cut = true
      break
    }
    const inner = list[i]
    const kept = fit(inner, budget, depth - 1)
    if (kept !== inner) list[i] = kept
  }
  return list
}

function fitObject(object: JsonObject, budget: Budget, depth: number): JsonObject {
  for (const key of Object.keys(object)) {
    budget.left -= key.length + entryCost
    if (budget.left <= 0) {
      delete object[key]
      budget.cut = true
      continue
    }
    const inner = object[key]
    const kept = fit(inner, budget, depth - 1)
    if (kept !== inner) object[key] = kept
  }
  return object
}
