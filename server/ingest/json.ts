// Bytes of a stranger -> a JSON value, and the text of it that PostgreSQL can store. Bounded before it is parsed: size, then
// nesting, in one pass over the bytes. That same pass looks for what valid JSON may hold and PostgreSQL may not, NUL and
// lone surrogates as escapes, and for whole numbers that JavaScript would round: those are read as text, so that the id of a
// user or of an order keeps its last digits. Clean bytes are stored as they came (stringify costs as much as parsing
// did); only the others are cleaned and written anew.

import { isUtf8 } from 'node:buffer'
import { toUSVString } from 'node:util'
import { AppError } from '../errors.ts'

export const maxEventBytes = 1024 * 1024
export const maxDepth = 100

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

export interface ParsedJson {
  value: unknown
  /** Valid UTF-8 JSON without NUL and lone surrogates. */
  text: Buffer
}

export function parseJson(input: Buffer): ParsedJson {
  if (input.length > maxEventBytes) throw eventTooLarge()
  const bytes = withoutBom(input)
  const { suspicious, bigNumbers } = scan(bytes)
  const valid = isUtf8(bytes)
  const value = parse(bigNumbers.length === 0 ? bytes : quoted(bytes, bigNumbers))
  if (valid && !(suspicious && hasUnstorable(value))) return { value, text: bytes }
  const clean = cleaned(value)
  return { value: clean, text: Buffer.from(JSON.stringify(clean)) }
}

export function eventTooLarge(): AppError {
  return new AppError('too_large', 'An event may have at most 1 MiB of JSON: send less context with it.')
}

/**
 * The elements of a JSON array, still as bytes, so that a bad one spoils no other. Their insides are not checked here: only
 * strings and brackets are followed.
 */
export function elementsFrom(input: Buffer, most: number): Buffer[] {
  const bytes = withoutBom(input)
  let at = 0
  while (isSpace(bytes[at])) at++
  if (bytes[at] !== openBracket) throw notAnArray()
  let start = ++at
  let depth = 1
  const elements: Buffer[] = []
  const add = (end: number) => {
    if (elements.length === most) throw new AppError('unprocessable', `At most ${most} events may be sent at once.`)
    elements.push(trimmed(bytes, start, end))
    start = end + 1
  }
  for (; at < bytes.length; at++) {
    const byte = bytes[at]
    if (byte === quote) at = endOfString(bytes, at)
    else if (byte === openBrace || byte === openBracket) depth++
    else if (byte === comma && depth === 1) add(at)
    else if (byte === closeBrace || byte === closeBracket) {
      depth--
      if (depth > 0) continue
      if (byte !== closeBracket || trimmed(bytes, at + 1, bytes.length).length > 0) throw notAnArray()
      if (elements.length > 0 || trimmed(bytes, start, at).length > 0) add(at)
      return elements
    }
  }
  throw notAnArray()
}

/** The `event_id` exactly as a client wrote it, for the answer to an event that was refused. */
export function sentIdFrom(bytes: Buffer): string | null {
  if (bytes.length > maxEventBytes) return null
  try {
    const id: unknown = (JSON.parse(bytes.toString()) as { event_id?: unknown } | null)?.event_id
    return typeof id === 'string' && id.length <= 64 ? id : null
  } catch {
    return null
  }
}

export function startsArray(bytes: Buffer): boolean {
  let at = hasBom(bytes) ? 3 : 0
  while (isSpace(bytes[at])) at++
  return bytes[at] === openBracket
}

/** PostgreSQL takes neither NUL nor half a surrogate pair in text. */
export function storable(text: string): string {
  return toUSVString(text.includes('\0') ? text.replaceAll('\0', '') : text)
}

interface Scanned {
  suspicious: boolean
  /** From and to, from and to: whole numbers of more digits than a number holds. */
  bigNumbers: number[]
}

/** Every whole number of 15 digits is exact. */
const exactDigits = 15

function scan(bytes: Buffer): Scanned {
  let depth = 0
  let suspicious = false
  const bigNumbers: number[] = []
  const { length } = bytes
  for (let at = 0; at < length; at++) {
    const byte = bytes[at]!
    if (byte === quote) {
      for (let inner = bytes[++at]; inner !== quote && at < length; inner = bytes[++at]) {
        if (inner !== backslash) continue
        at++
        suspicious ||= bytes[at] === 0x75 && isUnstorableEscape(bytes, at + 1)
      }
    } else if (byte === openBrace || byte === openBracket) {
      depth++
      if (depth > maxDepth) throw new AppError('bad_request', `The JSON is nested deeper than ${maxDepth} levels.`)
    } else if (byte === closeBrace || byte === closeBracket) depth--
    else if (isDigit(byte)) {
      const end = endOfDigits(bytes, at)
      if (end - at > exactDigits && isWhole(bytes, at, end)) bigNumbers.push(at, end)
      at = end - 1
    }
  }
  return { suspicious, bigNumbers }
}

function endOfDigits(bytes: Buffer, from: number): number {
  let end = from
  while (isDigit(bytes[end])) end++
  return end
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39
}

/** Not the digits of a fraction or an exponent, nor what comes before one: those are rounded anyway. */
function isWhole(bytes: Buffer, from: number, to: number): boolean {
  const before = bytes[from - 1]
  const after = bytes[to]
  const touches = (byte: number | undefined) => byte === 0x2e || byte === 0x65 || byte === 0x45 || byte === 0x2b
  if (touches(before) || touches(after) || bytes[from] === 0x30) return false
  return (
    !(before === 0x2d && touches(bytes[from - 2])) && !Number.isSafeInteger(Number(bytes.toString('latin1', from, to)))
  )
}

/** The bytes with these numbers in quotes, a minus included. */
function quoted(bytes: Buffer, numbers: number[]): Buffer {
  const parts: Buffer[] = []
  let done = 0
  for (let i = 0; i < numbers.length; i += 2) {
    const from = numbers[i]! - (bytes[numbers[i]! - 1] === 0x2d ? 1 : 0)
    const to = numbers[i + 1]!
    parts.push(bytes.subarray(done, from), quoteByte, bytes.subarray(from, to), quoteByte)
    done = to
  }
  return Buffer.concat([...parts, bytes.subarray(done)])
}

const quoteByte = Buffer.from('"')

/** `0000`, or any surrogate: whether those come in pairs is looked at once the text is parsed. */
function isUnstorableEscape(bytes: Buffer, at: number): boolean {
  const first = bytes[at]! | 0x20
  if (first === 0x64) return true
  return bytes[at] === 0x30 && bytes[at + 1] === 0x30 && bytes[at + 2] === 0x30 && bytes[at + 3] === 0x30
}

function parse(bytes: Buffer): unknown {
  if (bytes.length === 0) throw new AppError('bad_request', 'The body is empty: send one event as a JSON object.')
  try {
    return JSON.parse(bytes.toString())
  } catch {
    throw new AppError('bad_request', 'The event is not JSON: send one JSON object in UTF-8.')
  }
}

function hasUnstorable(value: unknown): boolean {
  if (typeof value === 'string') return value !== storable(value)
  if (Array.isArray(value)) return value.some(hasUnstorable)
  if (typeof value !== 'object' || value === null) return false
  return Object.entries(value).some(([key, inner]) => hasUnstorable(key) || hasUnstorable(inner))
}

function cleaned(value: unknown): unknown {
  if (typeof value === 'string') return storable(value)
  if (Array.isArray(value)) return value.map(cleaned)
  if (typeof value !== 'object' || value === null) return value
  // fromEntries defines properties and never calls a setter, so a key named __proto__ stays a key.
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [cleaned(key), cleaned(inner)]))
}

function endOfString(bytes: Buffer, start: number): number {
  let at = start + 1
  while (at < bytes.length && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1
  return at
}

function trimmed(bytes: Buffer, from: number, to: number): Buffer {
  let start = from
  let end = to
  while (start < end && isSpace(bytes[start])) start++
  while (end > start && isSpace(bytes[end - 1])) end--
  return bytes.subarray(start, end)
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

function withoutBom(bytes: Buffer): Buffer {
  return hasBom(bytes) ? bytes.subarray(3) : bytes
}

function hasBom(bytes: Buffer): boolean {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
}

function notAnArray(): AppError {
  return new AppError('bad_request', 'The body is not a JSON array: send [event, event, ...].')
}
