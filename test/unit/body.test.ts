import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { AppError, type ErrorCode } from '../../server/errors.ts'
import { createBodyDecoder, decodeStoreBody, maxInflatedBytes } from '../../server/ingest/body.ts'
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
    ['', text],
    ['identity', text],
    ['UTF-8', text],
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

test('an encoding that is not known is refused by name of those that are', async () => {
  for (const encoding of ['zstd', 'gzip, br', 'x']) await refused(() => decode(text, encoding), 'unsupported_encoding')
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

test('the old store body, base64 of zlib, is decoded, and anything else is left alone', async () => {
  const old = Buffer.from(deflateSync(text).toString('base64'))
  assert.deepEqual(await decodeStoreBody(old, decode), text)
  for (const other of ['{"a":1}', ' {"a":1}', 'hello', '', '"text"']) {
    assert.deepEqual(await decodeStoreBody(Buffer.from(other), decode), Buffer.from(other))
  }
})

test('a gzipped envelope of the Node SDK is decoded', async () => {
  const url = new URL('../fixtures/node-v11.exception-large-gzip.event.envelope.gz', import.meta.url)
  const { items } = parseEnvelope(await decode(readFileSync(url), 'gzip'))
  assert.deepEqual(
    items.map((item) => item.type),
    ['event'],
  )
})
