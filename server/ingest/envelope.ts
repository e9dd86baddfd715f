// Bytes -> the items of a Sentry envelope (https://develop.sentry.dev/sdk/data-model/envelopes/):
//
//   envelope = header-json ( LF item )* [LF]
//   item     = item-header-json LF payload
//
// A scanner over bytes, because payloads are binary. "With `length`: payload is exactly that many bytes and must be followed
// by LF or EOF. Without: payload runs to the next LF or EOF." An item header at the very end has an empty payload. Blank lines
// where an item header is expected are skipped; CR belongs to the line before it. What is malformed after an event was
// read does not cost that event.

import { AppError } from '../errors.ts'
import { storable } from './json.ts'
import { timeFrom } from './time.ts'
import { eventIdFrom, type JsonObject, objectFrom, textFrom } from './values.ts'

const maxHeaderBytes = 16 * 1024
const maxItems = 1000
const lineFeed = 0x0a

export interface EnvelopeHeader {
  /** 32 lower-case hex. */
  event_id: string | null
  dsn: string | null
  /** Milliseconds, by the client's clock. */
  sent_at: number | null
  sdk_name: string | null
}

export interface EnvelopeItem {
  type: string
  header: JsonObject
  /** A view into the envelope's bytes. */
  payload: Buffer
}

export interface Envelope {
  header: EnvelopeHeader
  items: EnvelopeItem[]
  /** What was wrong after the last item that could be read. */
  malformed: string | null
}

export function parseEnvelope(input: Buffer): Envelope {
  const bytes = input[0] === 0xef && input[1] === 0xbb && input[2] === 0xbf ? input.subarray(3) : input
  if (bytes.length === 0)
    throw new AppError('bad_envelope', 'The envelope is empty: its first line must be a JSON object.')
  const first = lineAt(bytes, 0)
  const header = jsonLine(bytes, 0, first)
  if (header === null) {
    throw new AppError('bad_envelope', 'The envelope header (the first line) is not a JSON object of at most 16 KiB.')
  }
  const items: EnvelopeItem[] = []
  const malformed = readItems(bytes, first + 1, items)
  if (malformed !== null && !items.some((item) => item.type === 'event')) throw new AppError('bad_envelope', malformed)
  return { header: headerFrom(header), items, malformed }
}

/** Fills `items`, and says what ended the reading early. */
function readItems(bytes: Buffer, from: number, items: EnvelopeItem[]): string | null {
  let at = from
  while (at < bytes.length) {
    const end = lineAt(bytes, at)
    if (isBlank(bytes, at, end)) {
      at = end + 1
      continue
    }
    const which = `Envelope item ${items.length + 1}`
    if (items.length === maxItems) return `An envelope may hold at most ${maxItems} items.`
    const header = jsonLine(bytes, at, end)
    if (header === null) return `${which}: its header is not a JSON object of at most 16 KiB.`
    if (typeof header.type !== 'string') return `${which}: its header has no "type".`
    const start = Math.min(end + 1, bytes.length)
    const stop = endOfPayload(bytes, start, header.length)
    if (typeof stop === 'string') return `${which}: ${stop}`
    items.push({ type: header.type, header, payload: bytes.subarray(start, stop) })
    at = stop + 1
  }
  return null
}

function endOfPayload(bytes: Buffer, start: number, length: unknown): number | string {
  if (length === undefined || length === null) return lineAt(bytes, start)
  if (typeof length !== 'number' || !Number.isSafeInteger(length) || length < 0)
    return '"length" is not a number of bytes.'
  const stop = start + length
  if (stop > bytes.length) return 'the envelope ends before "length" bytes were read.'
  if (stop < bytes.length && bytes[stop] !== lineFeed) return 'no line feed follows the "length" bytes of its payload.'
  return stop
}

function lineAt(bytes: Buffer, from: number): number {
  const end = bytes.indexOf(lineFeed, from)
  return end === -1 ? bytes.length : end
}

function isBlank(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (bytes[at] !== 0x20 && bytes[at] !== 0x0d && bytes[at] !== 0x09) return false
  return true
}

function jsonLine(bytes: Buffer, from: number, to: number): JsonObject | null {
  if (to - from > maxHeaderBytes) return null
  try {
    return objectFrom(JSON.parse(bytes.toString('utf8', from, to)))
  } catch {
    return null
  }
}

/** "A bad sent_at, sdk or trace must not reject": only what is used is read, and reads as absent when it is bad. */
function headerFrom(header: JsonObject): EnvelopeHeader {
  const sdk_name = textFrom(objectFrom(header.sdk)?.name, 200)
  return {
    event_id: eventIdFrom(header.event_id),
    dsn: typeof header.dsn === 'string' ? header.dsn : null,
    sent_at: timeFrom(header.sent_at),
    sdk_name: sdk_name === null ? null : storable(sdk_name),
  }
}
