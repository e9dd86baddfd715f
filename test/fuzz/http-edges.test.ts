// HTTP at its edges, byte by byte against a whole server: forms that two readers could read in two ways, connections that
// never come to an end, and everything that is no HTTP at all. What counts is what did not happen: no request was taken out of
// another one's body, no answer belongs to nobody, nobody else waits, and the server is well afterwards.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { startApp, type TestApp } from '../support/app.ts'
import { newId } from '../support/batch.ts'
import { dialRaw, type RawConnection } from '../support/raw.ts'
import { within } from '../support/within.ts'

const host = 'Host: x\r\n'
const ping = `GET /healthz HTTP/1.1\r\n${host}\r\n`
/** Refused by uWebSockets.js itself: a version, method or target that it does not take. */
const notSupported = 505

interface Edges extends TestApp {
  dial(): Promise<RawConnection>
  /** Line and headers of a request that stores an event, without those that say where its body ends. */
  events: string
  /** A whole request that stores an event of this title. */
  post(title: string, id?: string): string
  stored(title: string): Promise<number>
}

async function open(t: TestContext): Promise<Edges> {
  const server = await startApp(t)
  const events = `POST /api/v1/events?sentry_key=${server.public_key} HTTP/1.1\r\n${host}`
  const edges: Edges = {
    ...server,
    events,
    async dial() {
      const connection = await dialRaw(server.app.port)
      t.after(() => connection.socket.destroy())
      return connection
    },
    post(title, id = newId()) {
      const body = JSON.stringify({ message: title, event_id: id })
      return `${events}Content-Length: ${body.length}\r\n\r\n${body}`
    },
    async stored(title) {
      // An event that was sent after all others is stored after all others.
      await server.send({ message: 'marker' })
      const [row] = await server.database.sql<{ n: number }>('select count(*)::int as n from events where title = $1', [
        title,
      ])
      return row!.n
    },
  }
  return edges
}

/** A test with a server, which is well when it is over. */
function story(name: string, run: (server: Edges) => Promise<void>): void {
  test(name, async (t) => {
    const server = await open(t)
    await run(server)
    await assertWell(server)
  })
}

async function assertWell(server: Edges): Promise<void> {
  const connection = await server.dial()
  connection.write(ping)
  assert.equal((await connection.next())?.status, 200)
  const errors = server.log.lines.filter((line) => line.level === 'error')
  assert.deepEqual(errors, [], 'nothing of a stranger is an error of ours')
}

/** Everything that is answered to `bytes` before the connection ends, which it must. */
async function exchanged(server: Edges, what: string, bytes: string, closing = false): Promise<RawConnection> {
  const connection = await server.dial()
  connection.write(Buffer.from(bytes, 'latin1'))
  // Some forms are never parsed and wait for a time-out of 10 s: half-closed, they end at once.
  if (closing) connection.socket.end()
  await within(`the end of the connection after ${what}`, connection.end)
  assert.equal(connection.rest().length, 0, `${what}: no answer is ${connection.rest().toString('latin1', 0, 200)}`)
  return connection
}

/** The same connection still serves, or is over; nothing stands between the answers. */
async function assertUsableOrOver(connection: RawConnection, what: string): Promise<void> {
  connection.write(ping)
  const answer = await connection.next()
  assert.ok(answer === null || answer.status === 200, `${what}: then ${answer?.status} ${answer?.body}`)
  assert.equal(connection.rest().length, 0, what)
}

story(
  'A request whose end could be read in two ways is refused, and nothing is taken out of its body',
  async (server) => {
    const inner = server.post('smuggled')
    const [short, long] = ['0\r\n\r\n'.length, '0\r\n\r\n'.length + inner.length]
    const framings: string[] = [
      `Content-Length: ${short}\r\nTransfer-Encoding: chunked`,
      `Transfer-Encoding: chunked\r\nContent-Length: ${long}`,
      `Content-Length: ${short}\r\nContent-Length: ${long}`,
      `Content-Length: ${long}\r\nContent-Length: ${short}`,
      `Content-Length: ${short}\r\nContent-Length: ${short}`,
      `Content-Length: ${short}, ${long}`,
      `Content-Length: +${short}`,
      `Content-Length: -${short}`,
      `Content-Length: 0x${short}`,
      `Content-Length: ${short}a`,
      `Content-Length: ${short}.0`,
      `Content-Length: ${2n ** 64n + BigInt(short)}`,
      'Content-Length: ',
      'Content-Length: \r\nContent-Length: 5',
      'Transfer-Encoding: identity',
      'Transfer-Encoding: xchunked',
      'Transfer-Encoding: gzip, chunked',
      'Transfer-Encoding: chunked, identity',
      'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
      'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked',
      'Transfer-Encoding: "chunked"',
      'Transfer-Encoding: ',
    ]
    for (const framing of framings) {
      for (const follows of [inner, '']) {
        const { answers } = await exchanged(server, framing, `${server.events}${framing}\r\n\r\n0\r\n\r\n${follows}`)
        assert.ok(answers.length <= 1, `${framing}: ${answers.length} answers`)
        // What follows an empty length is read as the next request, which is none, before the answer.
        for (const { status, headers } of answers) {
          assert.ok(status === 400 || status === notSupported, `${framing}: ${status}`)
          assert.equal(headers.get('connection'), 'close', framing)
        }
      }
    }
    const { answers } = await exchanged(
      server,
      'two lengths on a path that takes no body',
      `GET /healthz HTTP/1.1\r\n${host}Content-Length: 0\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`,
    )
    assert.deepEqual(answers, [])
    assert.equal(await server.stored('smuggled'), 0)
  },
)

story(
  'A head with folded lines, bare line feeds, stray spaces or control characters is never taken for a request',
  async (server) => {
    const inner = server.post('smuggled')
    const body = '{"message":"odd"}'
    const length = `Content-Length: ${body.length}`
    const heads: Record<string, string> = {
      'a folded line': `${server.events}X-A: a\r\n b\r\n${length}\r\n\r\n`,
      'a folded length': `${server.events}X-A: a\r\n ${length}\r\n\r\n`,
      'a tab before a name': `${server.events}\t${length}\r\n\r\n`,
      'a space before the colon': `${server.events}Content-Length : ${body.length}\r\n\r\n`,
      'a tab before the colon': `${server.events}Content-Length\t: ${body.length}\r\n\r\n`,
      'a space before the colon of a coding': `${server.events}Transfer-Encoding : chunked\r\n${length}\r\n\r\n`,
      'bare line feeds': `${server.events}${length}\r\n\r\n`.replaceAll('\r', ''),
      'one bare line feed': `${server.events}X-A: a\n${length}\r\n\r\n`,
      'a bare carriage return': `${server.events}X-A: a\r${length}\r\n\r\n`,
      'NUL in a value': `${server.events}X-A: a\0b\r\n${length}\r\n\r\n`,
      'NUL in a name': `${server.events}X\0A: a\r\n${length}\r\n\r\n`,
      'a line without a colon': `${server.events}nonsense\r\n${length}\r\n\r\n`,
      'a name of two words': `${server.events}X A: a\r\n${length}\r\n\r\n`,
      'no Host and no end': server.events.replace(host, '').replace(/$/, length),
    }
    for (const [what, head] of Object.entries(heads)) {
      const { answers } = await exchanged(server, what, `${head}${body}${inner}`, true)
      assert.ok(answers.length <= 1, `${what}: ${answers.length} answers`)
      for (const { status } of answers) assert.ok((status >= 400 && status < 500) || status === notSupported, what)
    }
    assert.equal(await server.stored('odd'), 0)
    assert.equal(await server.stored('smuggled'), 0)
  },
)

story(
  'Chunk extensions, trailers and broken chunks may cost the connection, and never make a second request',
  async (server) => {
    const inner = server.post('smuggled')
    const event = (title: string) => JSON.stringify({ message: title })
    const size = event('chunked').length.toString(16)
    const bodies: Record<string, string> = {
      'an extension': `${size};a=b\r\n${event('chunked')}\r\n0\r\n\r\n`,
      'a quoted extension': `${size};a="b;c\r\nd"\r\n${event('chunked')}\r\n0\r\n\r\n`,
      'an extension of the last chunk': `${size}\r\n${event('chunked')}\r\n0;x=y\r\n\r\n`,
      'a trailer': `${size}\r\n${event('chunked')}\r\n0\r\nX-Checksum: 1\r\n\r\n`,
      'a length as a trailer': `${size}\r\n${event('chunked')}\r\n0\r\nContent-Length: 3\r\n\r\n`,
      'a chunk without a size': `\r\n${event('chunked')}\r\n0\r\n\r\n`,
      'a negative size': `-${size}\r\n${event('chunked')}\r\n0\r\n\r\n`,
      'a size with 0x': `0x${size}\r\n${event('chunked')}\r\n0\r\n\r\n`,
      'a size beyond 64 bits': `1${'0'.repeat(16)}\r\n${event('chunked')}\r\n0\r\n\r\n`,
      'a chunk that is longer than its size': `3\r\n${event('chunked')}\r\n0\r\n\r\n`,
      'a chunk that is shorter than its size': `ff\r\n${event('chunked')}\r\n0\r\n\r\n`,
      'no last chunk': `${size}\r\n${event('chunked')}\r\n`,
    }
    for (const [what, body] of Object.entries(bodies)) {
      const head = `${server.events}Transfer-Encoding: chunked\r\n\r\n`
      const { answers } = await exchanged(server, what, `${head}${body}${inner}`, true)
      assert.ok(answers.length <= 2, `${what}: ${answers.length} answers`)
      for (const { status } of answers) assert.ok(status < 500 || status === notSupported, `${what}: ${status}`)
    }
    assert.equal(await server.stored('smuggled'), 0)

    const whole = await server.dial()
    const half = event('in two chunks').length >> 1
    const parts = [event('in two chunks').slice(0, half), event('in two chunks').slice(half)]
    const chunks = parts.map((part) => `00${part.length.toString(16).toUpperCase()}\r\n${part}\r\n`).join('')
    whole.write(`${server.events}Transfer-Encoding: Chunked\r\n\r\n${chunks}0\r\n\r\n`)
    assert.equal((await whole.next())?.status, 202)
    await assertUsableOrOver(whole, 'chunks')
  },
)

story(
  'A name that this parser never reads ends its own connection, by time-out at the latest, and holds up nobody',
  async (server) => {
    const body = '{"message":"unread"}'
    const names = ['X_Request_Id', 'x.y', '_', 'sentry_key']
    const unread = await Promise.all(names.map(() => server.dial()))
    for (const [at, connection] of unread.entries())
      connection.write(`${server.events}${names[at]}: 1\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    assert.equal(await server.stored('unread'), 0)
    for (const [at, connection] of unread.entries()) {
      await within(`the end of a connection with ${names[at]}`, connection.end, 30_000)
      for (const { status } of connection.answers) assert.ok(status >= 400 && (status < 500 || status === notSupported))
      assert.equal(connection.rest().length, 0)
    }
    assert.equal(await server.stored('unread'), 0)
  },
)

story('Headers and bodies may come byte by byte, and heads without end hold up nobody', async (server) => {
  const endless = await Promise.all(Array.from({ length: 200 }, () => server.dial()))
  for (const [at, connection] of endless.entries()) connection.write(server.post('endless').slice(0, 10 + (at % 90)))
  const slow = await server.dial()
  // This version of uWebSockets.js refuses a request line that is cut in two.
  const request = server.post('byte by byte')
  const line = request.indexOf('\r\n') + 2
  for (const piece of [request.slice(0, line), ...request.slice(line)]) {
    slow.write(piece)
    await nextTurn()
  }
  assert.equal((await slow.next())?.status, 202)
  await assertUsableOrOver(slow, 'a slow request')
  for (const connection of endless) {
    for (const { status } of connection.answers) assert.equal(status, notSupported)
    connection.socket.resetAndDestroy()
  }
  assert.equal(await server.stored('byte by byte'), 1)
  assert.equal(await server.stored('endless'), 0)
})

story(
  'Pipelined requests are answered in order or end their connection, and events sent again are stored once',
  async (server) => {
    const quick = await server.dial()
    const paths = Array.from({ length: 30 }, (_, at) => (at % 3 === 0 ? '/healthz' : `/nothing/${at}`))
    quick.write(paths.map((path) => `GET ${path} HTTP/1.1\r\n${host}\r\n`).join(''))
    for (const path of paths) {
      const answer = await quick.next()
      assert.equal(answer?.status, path === '/healthz' ? 200 : 404)
      if (path !== '/healthz') assert.ok(answer?.body.includes(path), `${path} was answered with ${answer?.body}`)
    }
    assert.equal(quick.answers.length, paths.length)
    await assertUsableOrOver(quick, '30 requests at once')

    const due = new Set(Array.from({ length: 8 }, () => newId()))
    for (let attempt = 1; due.size > 0; attempt += 1) {
      assert.ok(attempt <= 20, `${due.size} events are never answered`)
      const eager = await server.dial()
      const sent = [...due].slice(0, attempt < 4 ? 4 : 1)
      eager.write(sent.map((id) => server.post('pipelined', id)).join(''))
      eager.socket.end()
      await within('the end of a connection with pipelined events', eager.end)
      assert.ok(eager.answers.length <= sent.length && eager.rest().length === 0)
      for (const { status, body } of eager.answers) {
        assert.equal(status, 202)
        due.delete((JSON.parse(body) as { id: string }).id)
      }
      if (attempt < 4) continue
      const patient = await server.dial()
      patient.write(server.post('pipelined', sent[0]!))
      assert.equal((await patient.next())?.status, 202)
      due.delete(sent[0]!)
    }
    assert.equal(await server.stored('pipelined'), 8)
  },
)

story('Expect: 100-continue is answered before the body, and a refusal does not wait for it', async (server) => {
  const body = '{"message":"expected"}'
  const expect = (length: number) => `Expect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`
  const patient = await server.dial()
  patient.write(`${server.events}${expect(body.length)}`)
  assert.equal((await patient.next())?.status, 100)
  patient.write(body)
  assert.equal((await patient.next())?.status, 202)
  await assertUsableOrOver(patient, '100-continue')

  for (const [what, head, status] of [
    ['a body that is too large', `${server.events}${expect(5_000_000)}`, 413],
    ['a wrong key', `${server.events.replace(server.public_key, newId())}${expect(body.length)}`, 403],
    ['a path of nobody', `POST /nothing HTTP/1.1\r\n${host}${expect(body.length)}`, 404],
  ] as const) {
    const refused = await server.dial()
    refused.write(head)
    let answer = await refused.next()
    if (answer?.status === 100) answer = await refused.next()
    assert.equal(answer?.status, status, what)
  }
  const hasty = await server.dial()
  hasty.write(`${server.events}${expect(body.length)}${body}`)
  let answer = await hasty.next()
  if (answer?.status === 100) answer = await hasty.next()
  assert.equal(answer?.status, 202)
  assert.equal(await server.stored('expected'), 2)
})

story(
  'Huge heads, absurd methods and targets, and other versions of HTTP are each refused with one answer',
  async (server) => {
    const heads: Record<string, string> = {
      'a header of 200 KB': `GET /healthz HTTP/1.1\r\n${host}X-A: ${'a'.repeat(200_000)}\r\n\r\n`,
      '5,000 headers': `GET /healthz HTTP/1.1\r\n${host}${'X-A: a\r\n'.repeat(5_000)}\r\n`,
      'a target of 60 KB': `GET /${'a'.repeat(60_000)} HTTP/1.1\r\n${host}\r\n`,
      'a target of 2 MB': `GET /${'a'.repeat(2_000_000)} HTTP/1.1\r\n${host}\r\n`,
      'a query of 60 KB': `GET /api/v1/projects?${'a=b&'.repeat(15_000)} HTTP/1.1\r\n${host}\r\n`,
      'a method of 3 KB': `${'A'.repeat(3_000)} /healthz HTTP/1.1\r\n${host}\r\n`,
      'no method': ` /healthz HTTP/1.1\r\n${host}\r\n`,
      'a method of bytes': `\xff\xfe\x80 /healthz HTTP/1.1\r\n${host}\r\n`,
      'a method in lower case': `post /api/v1/events HTTP/1.1\r\n${host}\r\n`,
      'a method that nobody knows': `BREW /api/v1/events HTTP/1.1\r\n${host}\r\n`,
      TRACE: `TRACE / HTTP/1.1\r\n${host}\r\n`,
      CONNECT: `CONNECT localhost:80 HTTP/1.1\r\n${host}\r\n`,
      'OPTIONS *': `OPTIONS * HTTP/1.1\r\n${host}\r\n`,
      'a target without a slash': `GET healthz HTTP/1.1\r\n${host}\r\n`,
      'an absolute target': `GET http://elsewhere/nothing HTTP/1.1\r\n${host}\r\n`,
      'no target': `GET  HTTP/1.1\r\n${host}\r\n`,
      'a target with a space': `GET /a b HTTP/1.1\r\n${host}\r\n`,
      'a target with NUL': `GET /a\0b HTTP/1.1\r\n${host}\r\n`,
      'a target of bytes': `GET /\xff\xfe HTTP/1.1\r\n${host}\r\n`,
      'a target of dots': `GET /../../../etc/passwd HTTP/1.1\r\n${host}\r\n`,
      'a target of encoded dots': `GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n${host}\r\n`,
      'broken encoding in an id': `GET /api/v1/issues/%zz HTTP/1.1\r\n${host}Authorization: Bearer ${server.token}\r\n\r\n`,
      'NUL in an id': `GET /api/v1/issues/%00 HTTP/1.1\r\n${host}Authorization: Bearer ${server.token}\r\n\r\n`,
      'HTTP/1.0': `GET /healthz HTTP/1.0\r\n\r\n`,
      'HTTP/1.0 that would stay': `GET /healthz HTTP/1.0\r\n${host}Connection: keep-alive\r\n\r\n`,
      'HTTP/0.9': 'GET /healthz\r\n\r\n',
      'HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'HTTP/1.10': `GET /healthz HTTP/1.10\r\n${host}\r\n`,
      'another protocol': `GET /healthz FTP/1.1\r\n${host}\r\n`,
      'TLS on a plain port': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n',
    }
    for (const [what, head] of Object.entries(heads)) {
      const connection = await server.dial()
      connection.write(Buffer.from(head, 'latin1'))
      const answer = await connection.next()
      // Too much of a head may also be answered by the end of the connection.
      if (answer === null) continue
      const { status } = answer
      assert.ok((status >= 400 && status < 500) || status === notSupported, `${what}: ${status} ${answer.body}`)
      assert.equal(connection.rest().length, 0, what)
      assert.equal(connection.answers.length, 1, what)
      await assertUsableOrOver(connection, what)
    }
    const large = await server.dial()
    large.write(`GET /healthz HTTP/1.1\r\n${host}Cookie: ${'a'.repeat(12_000)}\r\n\r\n`)
    assert.equal((await large.next())?.status, 200, 'a large cookie is ordinary')
  },
)

story(
  'An upgrade with a body, to something else, of another version or without a key never opens a socket',
  async (server) => {
    const line = `GET /ingest?sentry_key=${server.public_key} HTTP/1.1\r\n${host}`
    const version = 'Sec-WebSocket-Version: 13\r\n'
    const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
    const upgrade = 'Upgrade: websocket\r\nConnection: Upgrade\r\n'
    const frame = Buffer.from('{"message":"framed"}')
    const masked = Buffer.concat([Buffer.from([0x81, 0x80 | frame.length, 0, 0, 0, 0]), frame])
    const heads: Record<string, string> = {
      'a body': `${line}${upgrade}${version}${key}Content-Length: ${masked.length}\r\n\r\n`,
      'two lengths': `${line}${upgrade}${version}${key}Content-Length: 0\r\nContent-Length: ${masked.length}\r\n\r\n`,
      chunks: `${line}${upgrade}${version}${key}Transfer-Encoding: chunked\r\n\r\n`,
      'another protocol': `${line}Upgrade: h2c\r\nConnection: Upgrade\r\n${version}${key}\r\n`,
      'an old version': `${line}${upgrade}Sec-WebSocket-Version: 8\r\n${key}\r\n`,
      'no version': `${line}${upgrade}${key}\r\n`,
      'no key': `${line}${upgrade}${version}\r\n`,
      'a short key': `${line}${upgrade}${version}Sec-WebSocket-Key: abc\r\n\r\n`,
      'a key of 4 KB': `${line}${upgrade}${version}Sec-WebSocket-Key: ${'a'.repeat(4_096)}\r\n\r\n`,
      'no Connection': `${line}Upgrade: websocket\r\n${version}${key}\r\n`,
      'Connection: close': `${line}Upgrade: websocket\r\nConnection: close\r\n${version}${key}\r\n`,
      POST: `${line.replace('GET', 'POST')}${upgrade}${version}${key}\r\n`,
      'a wrong key of a project': `${line.replace(server.public_key, newId())}${upgrade}${version}${key}\r\n`,
    }
    for (const [what, head] of Object.entries(heads)) {
      const connection = await server.dial()
      connection.write(head)
      const answer = await connection.next()
      assert.ok(answer && answer.status >= 400 && answer.status < 500, `${what}: ${answer?.status}`)
      connection.write(masked)
      connection.socket.end()
      await within(`the end of the connection after ${what}`, connection.end)
    }
    assert.equal(await server.stored('framed'), 0)

    const good = await server.dial()
    good.write(`${line}${upgrade}${version}${key}Content-Length: 0\r\n\r\n`)
    assert.equal((await good.next())?.status, 101)
  },
)

story(
  'A connection that ends after any of its bytes costs nothing, and half an event is never stored',
  async (server) => {
    const requests = [
      server.post('cut short'),
      `${server.events}Transfer-Encoding: chunked\r\n\r\n15\r\n{"message":"cut short\r\n2\r\n"}\r\n0\r\n`,
      `GET /ingest?sentry_key=${server.public_key} HTTP/1.1\r\n${host}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
      `GET /stream/projects/app HTTP/1.1\r\n${host}Authorization: Bearer ${server.token}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
    ]
    for (const request of requests) {
      // The last byte is left out: it would make the request whole.
      for (let from = 0; from < request.length; from += 50) {
        const ends = Array.from({ length: Math.min(50, request.length - from) }, (_, at) => from + at)
        await Promise.all(
          ends.map(async (end) => {
            const connection = await server.dial()
            connection.write(request.slice(0, end))
            if (end % 2 === 0) connection.socket.resetAndDestroy()
            else connection.socket.end()
            await within(`the end of a connection that ended after ${end} bytes`, connection.end)
            connection.socket.destroy()
            for (const { status } of connection.answers) {
              assert.ok(status < 500 || status === notSupported, `${status} to ${request.slice(0, end)}`)
            }
          }),
        )
      }
    }
    assert.equal(await server.stored('cut short'), 0)
  },
)
