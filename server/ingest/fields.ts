// Fields of an event that have rules of their own: which values mean what, and which mean nothing.

import type { Level } from '../protocol.ts'
import { textFrom } from './values.ts'

const levelNames = new Map<unknown, Level>([
  ['fatal', 'fatal'],
  ['critical', 'fatal'],
  ['emergency', 'fatal'],
  ['alert', 'fatal'],
  ['error', 'error'],
  ['warning', 'warning'],
  ['warn', 'warning'],
  ['info', 'info'],
  ['log', 'info'],
  ['notice', 'info'],
  ['debug', 'debug'],
  ['trace', 'debug'],
  ['verbose', 'debug'],
  [10, 'debug'],
  [20, 'info'],
  [30, 'warning'],
  [40, 'error'],
  [50, 'fatal'],
])

/** Null for unknown ones; numbers are those of Python's logging, also as text. */
export function levelFrom(value: unknown): Level | null {
  const known = levelNames.get(value)
  if (known !== undefined || typeof value !== 'string') return known ?? null
  const name = value.trim().toLowerCase()
  return levelNames.get(name) ?? levelNames.get(Number(name)) ?? null
}

/** "Invalid, so dropped: `none`, anything with / or a newline", or longer than 64. */
export function environmentFrom(value: unknown): string | null {
  const name = textFrom(value, 100)
  return name === null || name.length > 64 || name === 'none' || /[\r\n\f/]/.test(name) ? null : name
}

/** "Invalid: contains \n \r \t / \, equals . or .., longer than 250 -> drop field." */
export function releaseFrom(value: unknown): string | null {
  const name = textFrom(value, 300)
  return name === null || name.length > 250 || name === '.' || name === '..' || /[\r\n\t\f/\\]/.test(name) ? null : name
}

export function distFrom(value: unknown): string | null {
  const name = textFrom(value, 100)
  return name !== null && /^[\w.-]{1,64}$/.test(name) ? name : null
}

/** One line: log names are shown beside each other. */
export function loggerFrom(value: unknown): string | null {
  const name = textFrom(value, 64)
  return name === null ? null : name.replace(/[\r\n]+/g, ' ')
}
