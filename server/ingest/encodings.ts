// The content codings of bodies (https://www.iana.org/assignments/http-parameters/, "Content Coding"), by what their header says.

import type { Transform } from 'node:stream'
import { promisify } from 'node:util'
import * as zlib from 'node:zlib'
import { AppError } from '../errors.ts'

export interface Codec {
  sync(bytes: Buffer, options: { maxOutputLength: number }): Buffer
  pooled(bytes: Buffer, options: { maxOutputLength: number }): Promise<Buffer>
  stream(): Transform
}

/** What the first bytes of a body tell when its header leaves it open. */
export type CodecOf = (start: Buffer) => Codec

const deflate: Codec = {
  sync: zlib.inflateSync,
  pooled: promisify(zlib.inflate),
  stream: zlib.createInflate,
}
const rawDeflate: Codec = {
  sync: zlib.inflateRawSync,
  pooled: promisify(zlib.inflateRaw),
  stream: zlib.createInflateRaw,
}
const gzip: Codec = { sync: zlib.gunzipSync, pooled: promisify(zlib.gunzip), stream: zlib.createGunzip }
const brotli: Codec = {
  sync: zlib.brotliDecompressSync,
  pooled: promisify(zlib.brotliDecompress),
  stream: zlib.createBrotliDecompress,
}

/** From Node 22.15 on. */
interface Zstd {
  zstdDecompressSync: Codec['sync']
  zstdDecompress(
    bytes: Buffer,
    options: { maxOutputLength: number },
    done: (error: Error | null, result: Buffer) => void,
  ): void
  createZstdDecompress(): Transform
}

const zstdLibrary: Partial<Zstd> = zlib as unknown as Partial<Zstd>
const { zstdDecompress, zstdDecompressSync, createZstdDecompress } = zstdLibrary
const zstd: Codec | null =
  zstdDecompress && zstdDecompressSync && createZstdDecompress
    ? { sync: zstdDecompressSync, pooled: promisify(zstdDecompress), stream: createZstdDecompress }
    : null

const codecs = new Map<string, CodecOf>([
  ['gzip', () => gzip],
  ['x-gzip', () => gzip],
  // "deflate" means zlib (RFC 1950), but some clients send the bare stream.
  ['deflate', (start) => (isZlib(start) ? deflate : rawDeflate)],
  ['br', () => brotli],
  ...(zstd ? [['zstd', () => zstd] as const] : []),
])

export const supported = [...new Set([...codecs.keys()].filter((name) => name !== 'x-gzip'))]

/** Codings that exist, and are none that Mesher reads. */
const unreadable = new Set(['aes128gcm', 'compress', 'x-compress', 'dcb', 'dcz', 'exi', 'pack200-gzip', 'zstd', 'lz4'])

/**
 * Null when the body is plain. So it is with what is no coding at all: sentry-ruby 5 sends an empty header, old Android
 * `UTF-8`, others `none` or `binary`.
 */
export function codecFrom(contentEncoding: string): CodecOf | null {
  if (contentEncoding === '') return null
  const names = contentEncoding
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
    .filter((name) => codecs.has(name) || unreadable.has(name))
  if (names.length === 0) return null
  const codec = names.length === 1 ? codecs.get(names[0]!) : undefined
  if (codec) return codec
  throw new AppError(
    'unsupported_encoding',
    `This Content-Encoding is not supported: send the body as ${supported.join(', ')}, or plain.`,
  )
}

/** RFC 1950: method 8, and the first two bytes are a multiple of 31. A bare stream cannot look like that: it would begin with a stored block with padding that no encoder sets. */
export function isZlib(bytes: Buffer): boolean {
  return bytes.length > 2 && (bytes[0]! & 0x0f) === 8 && bytes.readUInt16BE(0) % 31 === 0
}
