import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { parseConfig, variables } from '../../server/config.ts'

test('an empty environment gives the defaults of the table', () => {
  assert.deepEqual(parseConfig({}), {
    host: '127.0.0.1',
    port: 8080,
    databaseUrl: undefined,
    dataDir: resolve('data'),
    publicUrl: undefined,
    trustedProxies: [],
    openId: null,
    logLevel: 'warn',
    writers: 2,
    shutdownTimeout: 5000,
    databaseGrace: 5000,
  })
})

test('every variable of the environment is read', () => {
  const config = parseConfig({
    HOST: '::1',
    PORT: '0',
    DATABASE_URL: 'postgresql://me:p%40ss@db.example.com:6432/errors?sslmode=require',
    DATA_DIR: '/srv/mesher',
    PUBLIC_URL: 'https://errors.example.com/mesher/',
    TRUSTED_PROXIES: '10.0.0.0/8, 192.0.2.1,2001:db8::/32',
    OPENID_ISSUER: 'https://login.example.com/realm',
    OPENID_CLIENT_ID: 'mesher',
    OPENID_CLIENT_SECRET: 's3cret',
    OPENID_NAME: 'Example',
    OPENID_DOMAINS: 'example.com, Example.org',
    LOG_LEVEL: 'debug',
    WRITERS: '16',
    SHUTDOWN_TIMEOUT: '2.5',
    DATABASE_GRACE: '0',
    SOMETHING_ELSE: 'is nobody’s business',
  })
  assert.deepEqual(config, {
    host: '::1',
    port: 0,
    databaseUrl: 'postgresql://me:p%40ss@db.example.com:6432/errors?sslmode=require',
    dataDir: '/srv/mesher',
    publicUrl: 'https://errors.example.com/mesher',
    trustedProxies: ['10.0.0.0/8', '192.0.2.1', '2001:db8::/32'],
    openId: {
      issuer: 'https://login.example.com/realm',
      clientId: 'mesher',
      clientSecret: 's3cret',
      name: 'Example',
      domains: ['example.com', 'example.org'],
    },
    logLevel: 'debug',
    writers: 16,
    shutdownTimeout: 2500,
    databaseGrace: 0,
  })
})

test('an empty variable counts as unset', () => {
  const empty = Object.fromEntries(variables.map(({ name }) => [name, '']))
  assert.deepEqual(parseConfig(empty), parseConfig({}))
})

test('the configuration cannot be changed after it was read', () => {
  assert.ok(Object.isFrozen(parseConfig({})))
})

test('a bad value is named in one line with what is allowed', () => {
  const bad: [name: string, values: string[], allowed: RegExp][] = [
    ['HOST', ['two words', 'http://x', 'a/b'], /host name or an IP address/],
    ['PORT', ['-1', '65536', '80.5', 'http', '1e3', '99999999999999'], /whole number from 0 to 65535/],
    ['DATABASE_URL', ['localhost', 'mysql://u:secret@h/d', 'postgres://u:secret@h:port/d'], /postgres:\/\/user/],
    ['DATA_DIR', ['a\nb', 'a\0b'], /path of a folder/],
    ['PUBLIC_URL', ['errors.example.com', 'ftp://x', 'https://x/?a=1', 'https://u:p@x'], /https:\/\/errors/],
    ['TRUSTED_PROXIES', ['proxy', '10.0.0.0/33', '1.2.3.4/8/9', '10.0.0.1,,', '::1/x'], /addresses and networks/],
    ['OPENID_ISSUER', ['login.example.com', 'https://u:p@x', 'https://x/?a=1'], /https:\/\/login/],
    ['OPENID_CLIENT_ID', ['x'.repeat(501)], /at most 500 characters/],
    ['OPENID_CLIENT_SECRET', ['secret'.repeat(200)], /at most 1000 characters/],
    ['OPENID_NAME', ['x'.repeat(51)], /at most 50 characters/],
    ['OPENID_DOMAINS', ['example', 'a.com;b.com', '@a.com'], /domains like example\.com/],
    ['LOG_LEVEL', ['verbose', 'WARN'], /one of debug, info, warn, error/],
    ['WRITERS', ['0', '17', 'many'], /whole number from 1 to 16/],
    ['SHUTDOWN_TIMEOUT', ['0', '301', '5s'], /seconds from 1 to 300/],
    ['DATABASE_GRACE', ['-1', '61', 'long'], /seconds from 0 to 60/],
  ]
  assert.deepEqual(
    bad.map(([name]) => name),
    variables.map(({ name }) => name),
  )
  for (const [name, values, allowed] of bad) {
    for (const value of values) {
      assert.throws(
        () => parseConfig({ [name]: value }),
        (error: Error) => {
          assert.match(error.message, new RegExp(`^${name} is .*, but must be `), `${name}=${value}`)
          assert.match(error.message, allowed)
          assert.doesNotMatch(error.message, /\n|secret/)
          return true
        },
        `${name}=${value}`,
      )
    }
  }
})

test('a provider to sign in with needs an id and a secret as well', () => {
  assert.throws(
    () => parseConfig({ OPENID_ISSUER: 'https://login.example.com' }),
    /OPENID_CLIENT_ID and OPENID_CLIENT_SECRET/,
  )
})

test('several bad values are named together, still in one line', () => {
  assert.throws(() => parseConfig({ PORT: 'x', WRITERS: 'y' }), /^AppError: PORT is "x".*; WRITERS is "y"[^\n]*$/)
})

test('the table of variables in the README is the one in the code', async () => {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8')
  const rows = [...readme.matchAll(/^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$/gm)].map(
    ([, name, fallback, description]) => ({
      name,
      default: fallback?.replaceAll('`', '').trim(),
      description,
    }),
  )
  assert.deepEqual(rows, variables)
})
