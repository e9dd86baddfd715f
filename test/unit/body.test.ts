import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as zlib from 'node:zlib'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { AppError, type ErrorCode } from '../../server/errors.ts'
import type { HttpRequest } from '../../server/http/types.ts'
import { createBodyDecoder, decodeStoreBody, maxInflatedBytes, readBody } from '../../server/ingest/body.ts'
import { parseEnvelope } from '../../server/ingest/envelope.ts'

const decode = createBodyDecoder()
const text = Buffer.from('{"message":"hello hello hello"}')

async function refused(run: () => unknown, code: ErrorCode) {
  await assert.rejects(
    async () => run(),
    (error) => error instanceof AppError && error.code === code,
  )
}

test('each content encoding that SDKs use is decoded', async () => {
  const cases: [encoding: string, bytes: Buffer][] = [
    ['gzip', gzipSync(text)],
    [' GZip ', gzipSync(text)],
    ['deflate', deflateSync(text)],
    ['deflate', deflateSync(text, { level: 1 })],
    ['deflate', deflateRawSync(text)],
    ['br', brotliCompressSync(text)],
  ]
  for (const [encoding, bytes] of cases) assert.deepEqual(await decode(bytes, encoding), text, encoding)
})

test('large compressed bodies are decoded outside the event loop, exactly', async () => {
  const large = randomBytes(3_000_000)
  const zipped = gzipSync(large)
  const both = await Promise.all(Array.from({ length: 9 }, () => decode(zipped, 'gzip')))
  for (const bytes of both) assert.ok(bytes.equals(large))
  const compressible = Buffer.alloc(2_000_000, 'ab')
  assert.ok((await decode(gzipSync(compressible), 'gzip')).equals(compressible))
})

test('a coding that Mesher cannot read is refused by name of those that it can', async () => {
  for (const encoding of ['compress', 'gzip, br', 'gzip,gzip', 'aes128gcm']) {
    await refused(() => decode(text, encoding), 'unsupported_encoding')
  }
})

test('zstd is read where Node can, and refused elsewhere', async () => {
  // One segment of 31 bytes, in one raw block, the last (RFC 8878, 3.1.1).
  const frame = Buffer.concat([Buffer.from('28b52ffd201ff90000', 'hex'), text])
  if ('zstdDecompressSync' in zlib) assert.deepEqual(await decode(frame, 'zstd'), text)
  else await refused(() => decode(frame, 'zstd'), 'unsupported_encoding')
})

test('a header that names no coding leaves the body as it is', async () => {
  for (const encoding of [
    '',
    ' ',
    'identity',
    'UTF-8',
    'utf8',
    'none',
    'binary',
    'text/plain',
    'null',
    'identity, UTF-8',
  ]) {
    assert.deepEqual(await decode(text, encoding), text, encoding)
  }
  assert.deepEqual(await decode(gzipSync(text), 'identity, gzip'), text)
})

test('a corrupt or cut compressed body is a bad request', async () => {
  const noise = Buffer.concat([gzipSync(randomBytes(100_000)).subarray(0, 90_000)])
  for (const bytes of [text, Buffer.alloc(0), gzipSync(text).subarray(0, 20), noise]) {
    await refused(() => decode(bytes, 'gzip'), 'bad_request')
  }
  await refused(() => decode(text, 'br'), 'bad_request')
  await refused(() => decode(text, 'deflate'), 'bad_request')
})

test('a gzip bomb stops at the limit of its door', async () => {
  const bomb = gzipSync(Buffer.alloc(maxInflatedBytes + 1))
  assert.ok(bomb.length < 64 * 1024)
  await refused(() => decode(bomb, 'gzip'), 'too_large')
  await refused(() => decode(bomb, 'gzip', 1024 * 1024), 'too_large')
  await refused(() => decode(bomb, 'gzip', 100_000), 'too_large')
  await refused(() => decode(Buffer.alloc(2000), '', 1000), 'too_large')
  assert.equal((await decode(gzipSync(Buffer.alloc(maxInflatedBytes)), 'gzip')).length, maxInflatedBytes)
})

test('the old store bodies are decoded, and anything else is left alone', async () => {
  const text = Buffer.from('{"message":"hello 11"}')
  const zipped = deflateSync(text).toString('base64')
  assert.match(zipped, /\+/, 'holds what a form has to encode')
  const old = [
    zipped,
    gzipSync(text).toString('base64'),
    text.toString('base64'),
    `sentry_data=${encodeURIComponent(zipped)}`,
    `sentry_data=${zipped}`,
    `sentry_data=${encodeURIComponent(text.toString())}&sentry_version=4`,
    new URLSearchParams({ sentry_data: text.toString() }).toString(),
  ]
  for (const body of old) assert.equal(String(await decodeStoreBody(Buffer.from(body), decode)), String(text), body)
  for (const other of ['{"a":1}', ' {"a":1}', 'hello', '', '"text"', 'sentry_data', 'other=1']) {
    assert.deepEqual(await decodeStoreBody(Buffer.from(other), decode), Buffer.from(other))
  }
  const bomb = Buffer.from(deflateSync(Buffer.alloc(2_000_000)).toString('base64'))
  await refused(() => decodeStoreBody(bomb, decode, 1_000_000), 'too_large')
})

/** A request whose body comes in these pieces; `held` is what was counted. */
function requestOf(pieces: Buffer[], encoding: string) {
  const request = {
    held: 0,
    header: () => encoding,
    hold(bytes: number) {
      request.held += bytes
    },
    async read(take: (chunk: Buffer) => void) {
      for (const piece of pieces) {
        take(piece)
        await new Promise(setImmediate)
      }
    },
  }
  return request
}

async function readAll(pieces: Buffer[], encoding: string): Promise<Buffer> {
  const parts: Buffer[] = []
  await readBody(requestOf(pieces, encoding) as unknown as HttpRequest, (bytes) => void parts.push(bytes))
  return Buffer.concat(parts)
}

function inPieces(bytes: Buffer, size: number): Buffer[] {
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size))
  return pieces
}

test('a body that is read as it comes is the same in pieces of any size, in every coding', async () => {
  const large = randomBytes(300_000)
  for (const body of [text, Buffer.alloc(0), Buffer.alloc(3_000_000, 'ab'), large]) {
    const sent: [encoding: string, bytes: Buffer][] = [
      ['', body],
      ['gzip', gzipSync(body)],
      ['deflate', deflateSync(body)],
      ['deflate', deflateRawSync(body)],
      ['br', brotliCompressSync(body, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } })],
    ]
    for (const [encoding, bytes] of sent) {
      for (const size of [10_007, 70_000, bytes.length + 1]) {
        assert.ok(body.equals(await readAll(inPieces(bytes, size), encoding)), `${encoding} by ${size}`)
      }
    }
  }
})

test('a body that is read as it comes ends where it is too large or broken', async () => {
  const bomb = gzipSync(Buffer.alloc(maxInflatedBytes + 1))
  const noise = gzipSync(randomBytes(200_000))
  await refused(() => readAll([bomb], 'gzip'), 'too_large')
  await refused(() => readAll(inPieces(noise.subarray(0, 150_000), 10_000), 'gzip'), 'bad_request')
  await refused(() => readAll(inPieces(noise.subarray(0, 10_000), 1_000), 'gzip'), 'bad_request')
  await refused(() => readAll([Buffer.concat([noise.subarray(0, 90_000), noise])], 'gzip'), 'bad_request')
  await refused(() => readAll([text], 'br'), 'bad_request')
  let taken = 0
  const stop = () => {
    taken += 1
    throw new AppError('forbidden', 'This is enough.')
  }
  for (const bytes of [noise, gzipSync(text)]) {
    const request = requestOf(inPieces(bytes, 1_000), 'gzip') as unknown as HttpRequest
    await refused(() => readBody(request, stop), 'forbidden')
  }
  assert.equal(taken, 2)
})

test('a gzipped envelope of the Node SDK is decoded', async () => {
  const url = new URL('../fixtures/node-v11.exception-large-gzip.event.envelope.gz', import.meta.url)
  const { items } = parseEnvelope(await decode(readFileSync(url), 'gzip'))
  assert.deepEqual(
    items.map((item) => item.type),
    ['event'],
  )
})
