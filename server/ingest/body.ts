// Content-Encoding and the limits of a body. A compressed body is bounded by what it inflates to: small ones inflate at once
// (a gunzip of 10 KB costs 30 us, less than a trip to the thread pool) as long as the result stays small, everything else
// in the pool, four at a time, because a bomb costs its memory for as long as it inflates.

import { promisify } from 'node:util'
import {
  brotliDecompress,
  brotliDecompressSync,
  gunzip,
  gunzipSync,
  inflate,
  inflateRaw,
  inflateRawSync,
  inflateSync,
} from 'node:zlib'
import { AppError } from '../errors.ts'
import { createLimit } from '../limit.ts'

export const maxInflatedBytes = 40 * 1024 * 1024
const maxSyncInput = 64 * 1024
const maxSyncOutput = 512 * 1024
const maxConcurrent = 4

interface Codec {
  sync(bytes: Buffer, options: { maxOutputLength: number }): Buffer
  pooled(bytes: Buffer, options: { maxOutputLength: number }): Promise<Buffer>
}

const zlib: Codec = { sync: inflateSync, pooled: promisify(inflate) }
const raw: Codec = { sync: inflateRawSync, pooled: promisify(inflateRaw) }
const codecs: Record<string, Codec> = {
  gzip: { sync: gunzipSync, pooled: promisify(gunzip) },
  br: { sync: brotliDecompressSync, pooled: promisify(brotliDecompress) },
}

/** Resolves to at most `most` bytes. */
export type DecodeBody = (bytes: Buffer, contentEncoding: string, most?: number) => Buffer | Promise<Buffer>

export function createBodyDecoder(): DecodeBody {
  const gate = createLimit(maxConcurrent)

  function inflated(codec: Codec, bytes: Buffer, most: number): Buffer | Promise<Buffer> {
    if (bytes.length <= maxSyncInput) {
      try {
        return codec.sync(bytes, { maxOutputLength: Math.min(maxSyncOutput, most) })
      } catch (error) {
        if (!isOverflow(error)) throw corrupt(error)
        if (most <= maxSyncOutput) throw tooLarge(most)
      }
    }
    return gate(() => codec.pooled(bytes, { maxOutputLength: most })).catch((error) => {
      throw isOverflow(error) ? tooLarge(most) : corrupt(error)
    })
  }

  return (bytes, contentEncoding, most = maxInflatedBytes) => {
    switch (contentEncoding.trim().toLowerCase()) {
      // Old sentry-ruby sends an empty Content-Encoding, old Android `UTF-8`.
      case '':
      case 'identity':
      case 'utf-8':
        if (bytes.length > most) throw tooLarge(most)
        return bytes
      case 'gzip':
      case 'x-gzip':
        return inflated(codecs.gzip!, bytes, most)
      case 'deflate':
        return inflated(deflateCodec(bytes), bytes, most)
      case 'br':
        return inflated(codecs.br!, bytes, most)
      default:
        throw new AppError(
          'unsupported_encoding',
          'This Content-Encoding is not supported: send the body as gzip, deflate, br, or plain.',
        )
    }
  }
}

/** Legacy clients (raven) send `/store/` bodies as base64(zlib(JSON)), without saying so in a header. */
export function decodeStoreBody(bytes: Buffer, decode: DecodeBody): Buffer | Promise<Buffer> {
  if (!/^[A-Za-z0-9+/]/.test(bytes.toString('latin1', 0, 1))) return bytes
  const zipped = Buffer.from(bytes.toString('latin1'), 'base64')
  // What is not zlib either is left as it came: the event parser says best what is wrong with it.
  return isZlib(zipped) ? decode(zipped, 'deflate') : bytes
}

/**
 * `deflate` means zlib (RFC 1950), but some clients send the bare stream. That one cannot look like zlib: its first byte would
 * be a stored block with padding that no encoder sets.
 */
function deflateCodec(bytes: Buffer): Codec {
  return isZlib(bytes) ? zlib : raw
}

/** RFC 1950: method 8, and the first two bytes are a multiple of 31. */
function isZlib(bytes: Buffer): boolean {
  return bytes.length > 2 && (bytes[0]! & 0x0f) === 8 && bytes.readUInt16BE(0) % 31 === 0
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
