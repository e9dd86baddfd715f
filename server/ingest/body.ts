// Content-Encoding and the limits of a body. A compressed body is bounded by what it inflates to: small ones inflate at once
// (a gunzip of 10 KB costs 30 us, less than a trip to the thread pool) as long as the result stays small, everything else
// in the pool. What has to be whole inflates four at a time, because a bomb costs its memory for as long as it inflates;
// an envelope is handed on piece by piece, and what is not kept of it never is in memory.

import type { Transform } from 'node:stream'
import { finished } from 'node:stream/promises'
import { AppError } from '../errors.ts'
import type { HttpRequest } from '../http/types.ts'
import { createLimit } from '../limit.ts'
import { addPiece, joined } from '../pieces.ts'
import { type Codec, type CodecOf, codecFrom, isZlib } from './encodings.ts'

export const maxInflatedBytes = 40 * 1024 * 1024
const maxSyncInput = 64 * 1024
const maxSyncOutput = 512 * 1024
const maxConcurrent = 4
/** What an inflating stream takes for its window and its buffers. */
const streamBytes = 64 * 1024

/** Resolves to at most `most` bytes. */
export type DecodeBody = (bytes: Buffer, contentEncoding: string, most?: number) => Buffer | Promise<Buffer>

export function createBodyDecoder(): DecodeBody {
  const gate = createLimit(maxConcurrent)
  return (bytes, contentEncoding, most = maxInflatedBytes) => {
    const codecOf = codecFrom(contentEncoding)
    if (codecOf === null) {
      if (bytes.length > most) throw tooLarge(most)
      return bytes
    }
    const codec = codecOf(bytes)
    return (
      inflatedAtOnce(codec, bytes, most) ??
      gate(() => codec.pooled(bytes, { maxOutputLength: most })).catch((error) => {
        throw isOverflow(error) ? tooLarge(most) : corrupt(error)
      })
    )
  }
}

/** Null when it is better done elsewhere. */
function inflatedAtOnce(codec: Codec, bytes: Buffer, most: number): Buffer | null {
  if (bytes.length > maxSyncInput) return null
  try {
    return codec.sync(bytes, { maxOutputLength: Math.min(maxSyncOutput, most) })
  } catch (error) {
    if (!isOverflow(error)) throw corrupt(error)
    if (most <= maxSyncOutput) throw tooLarge(most)
    return null
  }
}

/**
 * Hands on the body piece by piece, inflated, as it comes in: what `take` throws ends the reading. Resolves with the last
 * piece.
 */
export function readBody(request: HttpRequest, take: (bytes: Buffer) => void): Promise<void> {
  const codecOf = codecFrom(request.header('content-encoding'))
  return codecOf === null ? request.read(take) : readInflated(request, codecOf, take)
}

async function readInflated(request: HttpRequest, codecOf: CodecOf, take: (bytes: Buffer) => void): Promise<void> {
  let start: Buffer[] = []
  let size = 0
  let inflation: Inflation | null = null

  function inflate(bytes: Buffer): Inflation {
    request.hold(streamBytes)
    const begun = createInflation(codecOf(bytes).stream(), maxInflatedBytes, take)
    begun.write(bytes)
    return begun
  }

  try {
    await request.read((chunk) => {
      request.hold(chunk.length)
      if (inflation) return inflation.write(chunk)
      addPiece(start, chunk)
      size += chunk.length
      if (size <= maxSyncInput) return
      inflation = inflate(joined(start))
      start = []
    })
    if (!inflation) {
      const bytes = joined(start)
      const inflated = inflatedAtOnce(codecOf(bytes), bytes, maxInflatedBytes)
      if (inflated) return take(inflated)
      inflation = inflate(bytes)
    }
    await (inflation as Inflation).end()
  } finally {
    ;(inflation as Inflation | null)?.stop()
  }
}

interface Inflation {
  /** Throws what went wrong with an earlier piece. */
  write(bytes: Buffer): void
  end(): Promise<void>
  stop(): void
}

function createInflation(stream: Transform, most: number, take: (bytes: Buffer) => void): Inflation {
  let total = 0
  let failure: unknown
  stream.on('data', (bytes: Buffer) => {
    if (failure) return
    try {
      total += bytes.length
      if (total > most) throw tooLarge(most)
      take(bytes)
    } catch (error) {
      failure = error
      stream.destroy()
    }
  })
  stream.on('error', (error) => {
    failure ??= corrupt(error)
  })
  return {
    write(bytes) {
      if (failure) throw failure
      stream.write(bytes)
    },
    async end() {
      stream.end()
      await finished(stream).catch(() => {})
      if (failure) throw failure
    },
    stop: () => stream.destroy(),
  }
}

/** Legacy clients (raven) send `/store/` bodies as base64(zlib(JSON)), without saying so in a header, or as a form that holds that. */
export function decodeStoreBody(sent: Buffer, decode: DecodeBody, most?: number): Buffer | Promise<Buffer> {
  const bytes = fromForm(sent)
  if (!/^[A-Za-z0-9+/]/.test(bytes.toString('latin1', 0, 1))) return bytes
  const zipped = Buffer.from(bytes.toString('latin1'), 'base64')
  if (isZlib(zipped)) return decode(zipped, 'deflate', most)
  if (zipped[0] === 0x1f && zipped[1] === 0x8b) return decode(zipped, 'gzip', most)
  // What holds no event after all is left as it came: the event parser says best what is wrong with it.
  return zipped[0] === 0x7b ? zipped : bytes
}

const formField = 'sentry_data='

/** `sentry_data=<percent-encoded>`, as some clients post it to `/store/`. */
function fromForm(bytes: Buffer): Buffer {
  if (bytes.toString('latin1', 0, formField.length) !== formField) return bytes
  const value = new URLSearchParams(bytes.toString()).get('sentry_data') ?? ''
  // In base64 a plus sign that was not encoded reads as a space.
  return Buffer.from(/^\s*\{/.test(value) ? value : value.replaceAll(' ', '+'))
}

function isOverflow(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE'
}

function tooLarge(most: number): AppError {
  return new AppError('too_large', `The body is larger than ${Math.floor(most / 1024 / 1024)} MiB, uncompressed.`)
}

function corrupt(cause: unknown): AppError {
  return new AppError('bad_request', 'The body does not decompress with the Content-Encoding it was sent with.', {
    cause,
  })
}
