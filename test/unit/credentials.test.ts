import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../server/errors.ts'
import { type Credentials, dsnFrom, publicKeyFrom } from '../../server/ingest/credentials.ts'

const key = '0123456789abcdef0123456789abcdef'
const other = 'f'.repeat(32)
const find = (sent: Partial<Credentials>) => publicKeyFrom({ query: '', xSentryAuth: '', authorization: '', ...sent })
const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

test('a key is found in every place where SDKs put it', () => {
  const places: Partial<Credentials>[] = [
    { query: `sentry_key=${key}` },
    { query: `sentry_version=7&sentry_key=${key}&sentry_client=sentry.javascript.browser%2F11.12.0` },
    { xSentryAuth: `Sentry sentry_key=${key}, sentry_version=7, sentry_client=sentry.python/2.0` },
    {
      xSentryAuth: `sentry sentry_version=5 ,sentry_client=raven-node/2,sentry_timestamp=1,sentry_key=${key},sentry_secret=x`,
    },
    { xSentryAuth: `  Sentry   sentry_client=a b , sentry_key = ${key}` },
    { authorization: `Sentry sentry_version=7,sentry_key=${key}` },
    { authorization: basic(`${key}:`) },
    { authorization: basic(`${key}:secret`) },
    { authorization: `Bearer ${key}`, bearer: true },
    { query: `sentry_key=${key}`, xSentryAuth: `Sentry sentry_key=${key}`, authorization: basic(`${key}:`) },
  ]
  for (const sent of places) assert.equal(find(sent), key, JSON.stringify(sent))
})

test('nothing and foreign authorization schemes are no key', () => {
  for (const sent of [
    {},
    { query: 'a=1' },
    { query: 'sentry_key=' },
    { authorization: 'Digest x' },
    { authorization: `Bearer ${key}` },
  ]) {
    assert.equal(find(sent), null, JSON.stringify(sent))
  }
})

test('malformed and contradicting credentials are refused', () => {
  const bad: Partial<Credentials>[] = [
    { xSentryAuth: key },
    { xSentryAuth: 'Sentry' },
    { xSentryAuth: 'Sentry sentry_version=7' },
    { xSentryAuth: 'Sentry sentry_key=, sentry_version=7' },
    { xSentryAuth: `Sentry xsentry_key=${key}` },
    { xSentryAuth: `Sentry ${', '.repeat(100_000)}` },
    { authorization: 'Basic' },
    { authorization: basic(':x') },
    { authorization: 'Bearer', bearer: true },
    { query: `sentry_key=${key}`, xSentryAuth: `Sentry sentry_key=${other}` },
    { xSentryAuth: `Sentry sentry_key=${key}`, authorization: `Bearer ${other}`, bearer: true },
  ]
  for (const sent of bad) {
    assert.throws(
      () => find(sent),
      (error) => error instanceof AppError && error.status === 401,
      JSON.stringify(sent).slice(0, 80),
    )
  }
})

test('a DSN gives its key and its project, with any host, prefix, port and secret', () => {
  const dsns = [
    `https://${key}@o1.ingest.example.com/prefix/42`,
    `http://${key}:secret@localhost:8080/42`,
    `http://${key}@[::1]:8080/a/b/0042/`,
    `http://${key}@localhost/42?timeout=5#x`,
    `http://${key}:@localhost/42`,
  ]
  for (const dsn of dsns) assert.deepEqual(dsnFrom(dsn), { public_key: key, project: '42' }, dsn)
  assert.equal(dsnFrom(`http://${key}@h/0`)?.project, '0')
  const bad = [
    null,
    '',
    'nonsense',
    'http://host/1',
    `ftp://${key}@h/1`,
    `http://${key}@h`,
    `http://${key}@h/`,
    `http://${key}@h/shop`,
    `http://${key}@h/9b1deb4d-3b7d`,
    `http://a b@h/1`,
    `http://${key}@h/${'1'.repeat(3000)}`,
  ]
  for (const dsn of bad) assert.equal(dsnFrom(dsn), null, String(dsn).slice(0, 80))
})
