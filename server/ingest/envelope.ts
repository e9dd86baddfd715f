// Bytes -> the items of a Sentry envelope (https://develop.sentry.dev/sdk/data-model/envelopes/):
//
//   envelope = header-json ( LF item )* [LF]
//   item     = item-header-json LF payload
//
// A scanner over bytes, because payloads are binary, and in pieces, because they are large. "With `length`: payload is exactly that many bytes and must be followed
// by LF or EOF. Without: payload runs to the next LF or EOF." An item header at the very end has an empty payload. Blank lines
// where an item header is expected are skipped; CR belongs to the line before it. What is malformed after an event was
// read does not cost that event.

import { AppError } from '../errors.ts'
import { addPiece, joined } from '../pieces.ts'
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
  /** Bytes of the payload as it was sent. */
  size: number
  /** Empty when it is larger than what was to be kept of its type. */
  payload: Buffer
}

export interface Envelope {
  header: EnvelopeHeader
  items: EnvelopeItem[]
  /** What was wrong after the last item that could be read. */
  malformed: string | null
}

/** How many bytes of a payload to keep; it is asked once an item, in the order of the items. */
export type Keep = (type: string) => number

const nothing = Buffer.alloc(0)
const everything: Keep = () => Number.POSITIVE_INFINITY

export function parseEnvelope(bytes: Buffer, keep = everything): Envelope {
  const parser = new EnvelopeParser(keep)
  parser.write(bytes)
  return parser.end()
}

/**
 * Takes the bytes as they come, in pieces of any size, so that a door knows the header (and whose key it names) with the first
 * line, and never holds what it will not keep. Pieces are kept as views: they must not change.
 */
export class EnvelopeParser {
  /** Once its line was read. */
  header: EnvelopeHeader | null = null
  /** Bytes that are held, of payloads and of a line that is not complete. */
  held = 0
  readonly #keep: Keep
  readonly #items: EnvelopeItem[] = []
  #malformed: string | null = null
  /** Of a line that has begun. */
  #line: Buffer[] = []
  #lineSize = 0
  /** The item whose payload is being read. */
  #item: EnvelopeItem | null = null
  #parts: Buffer[] = []
  #most = 0
  /** Bytes of its payload that are still to come; null: it ends with its line. */
  #left: number | null = null

  constructor(keep: Keep) {
    this.#keep = keep
  }

  /** Throws bad_envelope as soon as the header turns out to be none. */
  write(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length && this.#malformed === null)
      at = this.#item === null ? this.#readLine(bytes, at) : this.#readPayload(bytes, at, this.#item)
  }

  /** Nothing more comes. Throws bad_envelope unless the header, and an event or everything, could be read. */
  end(): Envelope {
    if (this.header === null && this.#lineSize === 0)
      throw new AppError('bad_envelope', 'The envelope is empty: its first line must be a JSON object.')
    if (this.#malformed === null && (this.header === null || this.#lineSize > 0)) this.#endLine(nothing)
    if (this.#malformed === null && this.#item !== null) {
      if (this.#left !== null && this.#left > 0) this.#fail('the envelope ends before "length" bytes were read.')
      else this.#endItem(this.#item)
    }
    const [items, malformed] = [this.#items, this.#malformed]
    if (malformed !== null && !items.some((item) => item.type === 'event'))
      throw new AppError('bad_envelope', malformed)
    return { header: this.header!, items, malformed }
  }

  /** Returns where to go on. */
  #readLine(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(lineFeed, at)
    const part = bytes.subarray(at, end === -1 ? bytes.length : end)
    if (end !== -1) {
      this.#endLine(part)
      return end + 1
    }
    addPiece(this.#line, part)
    this.#lineSize += part.length
    this.held += part.length
    // A BOM does not count.
    if (this.#lineSize > maxHeaderBytes + 3) this.#endLine(nothing)
    return bytes.length
  }

  #endLine(part: Buffer): void {
    const line = this.#line.length === 0 ? part : Buffer.concat([...this.#line, part])
    this.held -= this.#lineSize
    this.#line = []
    this.#lineSize = 0
    if (this.header === null) this.#readHeader(line)
    else if (line.length > maxHeaderBytes || !isBlank(line)) this.#beginItem(line)
  }

  #readHeader(line: Buffer): void {
    const header = jsonLine(line[0] === 0xef && line[1] === 0xbb && line[2] === 0xbf ? line.subarray(3) : line)
    if (header === null) {
      throw new AppError('bad_envelope', 'The envelope header (the first line) is not a JSON object of at most 16 KiB.')
    }
    this.header = headerFrom(header)
  }

  #beginItem(line: Buffer): void {
    if (this.#items.length === maxItems) {
      this.#malformed = `An envelope may hold at most ${maxItems} items.`
      return
    }
    const header = jsonLine(line)
    const length = header?.length ?? null
    if (header === null) this.#fail('its header is not a JSON object of at most 16 KiB.')
    else if (typeof header.type !== 'string') this.#fail('its header has no "type".')
    else if (length !== null && !isLength(length)) this.#fail('"length" is not a number of bytes.')
    else {
      this.#most = this.#keep(header.type)
      this.#left = length
      this.#item = { type: header.type, header, size: 0, payload: nothing }
    }
  }

  /** Returns where to go on. */
  #readPayload(bytes: Buffer, at: number, item: EnvelopeItem): number {
    if (this.#left === 0) {
      if (bytes[at] === lineFeed) this.#endItem(item)
      else this.#fail('no line feed follows the "length" bytes of its payload.')
      return at + 1
    }
    const end = this.#left === null ? bytes.indexOf(lineFeed, at) : Math.min(at + this.#left, bytes.length)
    const part = bytes.subarray(at, end === -1 ? bytes.length : end)
    if (this.#left !== null) this.#left -= part.length
    item.size += part.length
    if (item.size <= this.#most) {
      if (part.length > 0) addPiece(this.#parts, part)
      this.held += part.length
    } else this.#letGo()
    if (this.#left !== null) return end
    if (end === -1) return bytes.length
    this.#endItem(item)
    return end + 1
  }

  #endItem(item: EnvelopeItem): void {
    if (item.size <= this.#most) item.payload = joined(this.#parts)
    this.#parts = []
    this.#item = null
    this.#items.push(item)
  }

  #letGo(): void {
    for (const part of this.#parts) this.held -= part.length
    this.#parts = []
  }

  #fail(why: string): void {
    this.#malformed = `Envelope item ${this.#items.length + 1}: ${why}`
    this.#letGo()
    this.#item = null
  }
}

function isLength(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isBlank(line: Buffer): boolean {
  for (const byte of line) if (byte !== 0x20 && byte !== 0x0d && byte !== 0x09) return false
  return true
}

function jsonLine(line: Buffer): JsonObject | null {
  if (line.length > maxHeaderBytes) return null
  try {
    return objectFrom(JSON.parse(line.toString()))
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
