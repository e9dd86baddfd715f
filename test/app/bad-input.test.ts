// What strangers send to a whole server. Each is answered with what was wrong; none of it costs anybody else anything.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { WebSocket } from 'ws'
import { startApp, type TestApp } from '../support/app.ts'
import { newId } from '../support/batch.ts'
import { eventually } from '../support/eventually.ts'

const mebibyte = 1024 * 1024

/** A server with a second project, a revoked key, and the paths of every door. */
async function open(t: TestContext) {
  const server = await startApp(t)
  const [other] = await server.database.sql<{ id: string }>(
    "insert into projects (organization_id, slug, name) select id, 'other', 'Other' from organizations returning id",
  )
  const [foreign, revoked] = [newId(), newId()]
  await server.database.sql('insert into project_keys (public_key, project_id) values ($1, $2)', [foreign, other!.id])
  await server.database.sql('insert into project_keys (public_key, project_id, revoked_at) values ($1, $2, now())', [
    revoked,
    server.project_id,
  ])
  const doors = {
    envelope: `/api/${server.project_id}/envelope/`,
    store: `/api/${server.project_id}/store/`,
    events: '/api/v1/events',
    bulk: '/api/v1/events/bulk',
  }
  return { server, foreign, revoked, doors, otherProject: other!.id }
}

/** The server is well, and has not lost what it should keep. */
async function assertWell(server: TestApp, events: number): Promise<void> {
  const { issue_id } = await server.send({ message: 'an ordinary event' })
  assert.match(issue_id, /^\d+$/)
  const ready = await fetch(`${server.url}/readyz`)
  assert.equal(ready.status, 200, await ready.text())
  const [row] = await server.database.sql<{ n: string }>('select count(*) as n from events')
  assert.equal(Number(row!.n), events + 1)
  const errors = server.log.lines.filter((line) => line.level === 'error')
  assert.deepEqual(errors, [], 'nothing of a stranger is an error of ours')
}

const nested = (levels: number) => `{"message":"deep","extra":${'['.repeat(levels)}${']'.repeat(levels)}}`
const envelopeOf = (event: string) => `{"event_id":"${newId()}"}\n{"type":"event"}\n${event}\n`

test('Every door answers bad bodies with their status and the reason, and stores nothing of them', async (t) => {
  const { server, doors } = await open(t)
  const zeros = gzipSync(Buffer.alloc(64 * mebibyte))
  const attached = gzipSync(Buffer.concat([Buffer.from('{}\n{"type":"attachment"}\n'), Buffer.alloc(64 * mebibyte)]))
  const gzip = { 'content-encoding': 'gzip' }
  type Case = [
    door: keyof typeof doors,
    what: string,
    body: string | Buffer,
    status: number,
    headers?: Record<string, string>,
  ]
  const cases: Case[] = [
    ['envelope', 'nothing', '', 400],
    ['envelope', 'not an envelope', 'hello', 400],
    ['envelope', 'an array', '[1,2]', 400],
    ['envelope', 'an item without a type', '{}\n{}\n{}', 400],
    ['envelope', 'an item that is longer than the body', '{}\n{"type":"event","length":100}\n{}', 400],
    ['envelope', 'a negative length', '{}\n{"type":"event","length":-1}\n{}', 400],
    ['envelope', 'an event that is no JSON', '{}\n{"type":"event"}\nhello', 400],
    ['envelope', 'an event that is an array', '{}\n{"type":"event"}\n[]', 400],
    ['envelope', '10,000 levels', envelopeOf(nested(10_000)), 400],
    ['envelope', '21 MiB', Buffer.alloc(21 * mebibyte, 'x'), 413],
    ['envelope', 'a gzip bomb', attached, 413, gzip],
    ['envelope', 'a header without end', zeros, 400, gzip],
    ['envelope', 'half a gzip', zeros.subarray(0, 1000), 400, gzip],
    ['envelope', 'no gzip', '{}', 400, gzip],
    ['envelope', 'an unknown encoding', '{}', 415, { 'content-encoding': 'compress' }],
    ['store', 'nothing', '', 400],
    ['store', 'a number', '42', 400],
    ['store', 'null', 'null', 400],
    ['store', '10,000 levels', nested(10_000), 400],
    ['store', '100,000 levels of objects', '{"a":'.repeat(100_000), 400],
    ['store', 'a gzip bomb', zeros, 413, gzip],
    ['store', 'more than 1 MiB', `{"message":"${'x'.repeat(mebibyte)}"}`, 413],
    ['events', 'nothing', '', 400],
    ['events', 'not JSON', '{message:"a"}', 400],
    ['events', 'two events', '{"message":"a"}{"message":"b"}', 400],
    ['events', 'an array', '[{"message":"a"}]', 400],
    ['events', 'an event that says nothing', '{"level":"error"}', 422],
    ['events', 'a message that is only NUL', '{"message":"\\u0000\\u0000"}', 422],
    ['events', 'a message of a wrong type', '{"message":{"a":1}}', 422],
    ['events', '10,000 levels', nested(10_000), 400],
    ['events', 'more than 1 MiB', `{"message":"${'x'.repeat(mebibyte)}"}`, 413],
    ['events', 'a small bomb', gzipSync(Buffer.alloc(2 * mebibyte)), 413, gzip],
    ['events', 'a brotli bomb', brotliCompressSync(Buffer.alloc(20 * mebibyte)), 413, { 'content-encoding': 'br' }],
    ['events', 'a deflate bomb', deflateSync(Buffer.alloc(20 * mebibyte)), 413, { 'content-encoding': 'deflate' }],
    ['bulk', 'nothing', '', 400],
    ['bulk', 'one event', '{"message":"a"}', 400],
    ['bulk', 'an array without end', '[{"message":"a"}', 400],
    ['bulk', '1,001 events', `[${'{"message":"a"},'.repeat(1000)}{"message":"a"}]`, 422],
    ['bulk', 'an array of a million', `[${'0,'.repeat(1_000_000)}0]`, 422],
    ['bulk', 'more than 5 MiB', `[${' '.repeat(5 * mebibyte)}]`, 413],
    ['bulk', 'a gzip bomb', zeros, 413, gzip],
  ]
  for (const [door, what, body, status, headers = {}] of cases) {
    const response = await fetch(`${server.url}${doors[door]}?sentry_key=${server.public_key}`, {
      method: 'POST',
      headers,
      body,
    })
    const answer = (await response.json()) as { detail?: string; error?: { code: string; message: string } }
    assert.equal(response.status, status, `${door}: ${what}`)
    const said = answer.error?.message ?? answer.detail ?? ''
    assert.match(said, /^\S.{10,}/, `${door}: ${what} is answered with a sentence`)
    if (door === 'envelope' || door === 'store') assert.ok(response.headers.get('x-sentry-error'), `${door}: ${what}`)
    else assert.match(answer.error!.code, /^[a-z_]+$/)
  }
  await assertWell(server, 0)
})

test('Wrong, revoked and foreign keys are refused at every door, HTTP and WebSocket', async (t) => {
  const { server, doors, foreign, revoked, otherProject } = await open(t)
  const upgrade = (query: string) =>
    new Promise<number>((resolve) => {
      const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ingest${query}`)
      socket.on('error', () => {})
      socket.on('unexpected-response', (_request, response) => {
        resolve(response.statusCode ?? 0)
        response.destroy()
      })
      socket.on('open', () => resolve(101))
    })
  const keys: [what: string, key: string | null, status: number][] = [
    ['none', null, 401],
    ['empty', '', 401],
    ['unknown', '0'.repeat(32), 403],
    ['revoked', revoked, 403],
    ['of odd characters', "'; drop table events; --", 403],
    ['with a NUL', '\0', 403],
    ['of 10,000 characters', 'a'.repeat(10_000), 403],
  ]
  for (const [what, key, status] of keys) {
    const query = key === null ? '' : `?sentry_key=${encodeURIComponent(key)}`
    for (const [door, path] of Object.entries(doors)) {
      const body =
        door === 'bulk' ? '[{"message":"a"}]' : door === 'envelope' ? envelopeOf('{"message":"a"}') : '{"message":"a"}'
      const response = await fetch(`${server.url}${path}${query}`, { method: 'POST', body })
      assert.equal(response.status, status, `${door} with a key ${what}`)
      await response.arrayBuffer()
    }
    assert.equal(await upgrade(query), status, `/ingest with a key ${what}`)
  }
  const post = async (path: string, key: string) =>
    (await fetch(`${server.url}${path}?sentry_key=${key}`, { method: 'POST', body: envelopeOf('{"message":"a"}') }))
      .status
  assert.equal(await post(doors.envelope, foreign), 403, 'the key of another project')
  assert.equal(await post(`/api/${otherProject}/envelope/`, server.public_key), 403)
  assert.equal(await post('/api/999999/envelope/', server.public_key), 403, 'a project that does not exist')
  assert.equal(await post('/api/shop/envelope/', server.public_key), 404)
  assert.equal(await post('/api/99999999999999999999999999/envelope/', server.public_key), 403)
  await assertWell(server, 0)
})

test('Fields of wrong types cost the field and never the event, whatever is in them', async (t) => {
  const { server } = await open(t)
  const fields = [
    ...[
      'event_id',
      'timestamp',
      'level',
      'platform',
      'logger',
      'transaction',
      'server_name',
      'release',
      'dist',
      'environment',
    ],
    ...[
      'tags',
      'user',
      'request',
      'contexts',
      'extra',
      'exception',
      'threads',
      'stacktrace',
      'breadcrumbs',
      'fingerprint',
    ],
    ...['modules', 'sdk', 'debug_meta', 'logentry', 'culprit', 'errors', '__proto__', 'constructor', 'toString'],
  ]
  const values = [
    ...[
      'null',
      'true',
      '-1',
      '1e400',
      '""',
      '"\\u0000"',
      '"\\ud800"',
      '[]',
      '{}',
      '[[]]',
      '[null]',
      '[{}]',
      '{"":null}',
    ],
    ...[
      '{"values":0}',
      '{"values":[0,{"type":5,"value":{}}]}',
      '[["a"],["b",{}],[1,2]]',
      '"x\\udc00\\u0001"',
      '99999999999999999999',
    ],
    ...[
      '{"values":[{"stacktrace":{"frames":[null,5,{"function":{},"lineno":"x","in_app":"?"}]}}]}',
      `"${'y'.repeat(30_000)}"`,
    ],
  ]
  const events = fields.flatMap((field) => values.map((value) => `{"message":"kept","${field}":${value}}`))
  assert.ok(events.length > 500)
  let stored = 0
  for (let at = 0; at < events.length; at += 200) {
    const response = await fetch(`${server.url}/api/v1/events/bulk?sentry_key=${server.public_key}`, {
      method: 'POST',
      body: `[${events.slice(at, at + 200).join(',')}]`,
    })
    const { results } = (await response.json()) as { results: { status: string }[] }
    for (const [index, result] of results.entries())
      assert.equal(result.status, 'accepted', events[at + index]!.slice(0, 200))
    stored += results.length
  }
  const [row] = await server.database.sql<{ nuls: string }>(
    "select count(*) as nuls from events where payload::text ~ '\\\\u0000' or payload::text ~* '\\\\ud[89a-f]'",
  )
  assert.equal(row!.nuls, '0', 'what PostgreSQL cannot read is not stored')
  await assertWell(server, stored)
})

test('NUL, lone surrogates and broken UTF-8 are stored without what PostgreSQL cannot hold', async (t) => {
  const { server, doors } = await open(t)
  const bodies = [
    Buffer.from('{"message":"a\\u0000b","tags":{"k\\u0000":"v\\u0000"},"user":{"id":"\\u0000 7"}}'),
    Buffer.from('{"message":"a\\ud83db","extra":{"\\udfff":"\\ud800"}}'),
    Buffer.concat([Buffer.from('{"message":"a'), Buffer.from([0xff, 0xc3, 0xed, 0xa0, 0x80]), Buffer.from('b"}')]),
  ]
  for (const body of bodies) {
    const response = await fetch(`${server.url}${doors.events}?sentry_key=${server.public_key}`, {
      method: 'POST',
      body,
    })
    assert.equal(response.status, 202, body.toString())
  }
  const rows = await server.database.sql<{ message: string }>("select payload ->> 'message' as message from events")
  assert.equal(rows.length, 3)
  for (const row of rows) assert.match(row.message, /^a\ufffd*b$/)
  await assertWell(server, 3)
})

test('Bad frames on /ingest are answered one by one, and a frame that is too large closes its own socket only', async (t) => {
  const { server } = await open(t)
  const join = async () => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ingest?sentry_key=${server.public_key}`)
    t.after(() => socket.terminate())
    const answers: Record<string, unknown>[] = []
    socket.on('message', (data) => answers.push(JSON.parse(String(data))))
    await once(socket, 'open')
    return { socket, answers }
  }
  const [bad, good] = [await join(), await join()]
  const frames: [frame: string | Buffer, code: string][] = [
    ['', 'bad_request'],
    ['hello', 'bad_request'],
    ['null', 'bad_request'],
    [nested(10_000), 'bad_request'],
    ['[]', 'unprocessable'],
    ['{"level":"error"}', 'unprocessable'],
    [Buffer.from([0, 1, 2, 255]), 'bad_envelope'],
    [Buffer.from('{"message":"an event in a binary frame"}\n{}'), 'bad_envelope'],
    [`{"message":"${'x'.repeat(mebibyte)}"}`, 'too_large'],
  ]
  for (const [frame, code] of frames) {
    const before = bad.answers.length
    bad.socket.send(frame)
    await eventually(() => assert.equal(bad.answers.length, before + 1))
    const answer = bad.answers.at(-1)!
    assert.deepEqual([answer.status, answer.code], ['rejected', code], String(frame.slice(0, 60)))
  }
  const closed = once(bad.socket, 'close')
  bad.socket.on('error', () => {})
  bad.socket.send(Buffer.alloc(7 * mebibyte))
  await closed
  good.socket.send('{"message":"as always"}')
  await eventually(() => assert.equal(good.answers[0]?.status, 'accepted'))
  await assertWell(server, 1)
})

/** A raw connection: what HTTP clients are too polite to send. */
async function dial(
  t: TestContext,
  server: TestApp,
): Promise<{ socket: Socket; text: () => string; closed: Promise<unknown> }> {
  const socket = connect({ port: server.app.port, host: '127.0.0.1', allowHalfOpen: true })
  t.after(() => socket.destroy())
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk
  })
  socket.on('error', () => {})
  const closed = Promise.race([once(socket, 'end'), once(socket, 'close')])
  await once(socket, 'connect')
  return { socket, text: () => text, closed }
}

test('Connections that are silent, half-open, broken or slow are closed, and hold up nobody', async (t) => {
  const { server, doors } = await open(t)
  const head = (path: string, length: number) =>
    `POST ${path}?sentry_key=${server.public_key} HTTP/1.1\r\nhost: x\r\ncontent-length: ${length}\r\n\r\n`
  const silent = await dial(t, server)
  const halfHeader = await dial(t, server)
  halfHeader.socket.write('POST /api/v1/events HTTP/1.1\r\nhost')
  const halfBody = await dial(t, server)
  halfBody.socket.write(`${head(doors.events, 1000)}{"message":`)
  const halfOpen = await dial(t, server)
  halfOpen.socket.write(`${head(doors.envelope, 1000)}{}`)
  halfOpen.socket.end()
  const garbage = await dial(t, server)
  garbage.socket.write('\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n')
  const handshake = await dial(t, server)
  handshake.socket.write(
    `GET /ingest?sentry_key=${server.public_key} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n` +
      'sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  await eventually(() => assert.match(handshake.text(), /^HTTP\/1\.1 101/))
  // A frame without a mask, and of an opcode that does not exist.
  handshake.socket.write(Buffer.from([0x83, 0x05, 1, 2, 3, 4, 5]))
  const gone = await dial(t, server)
  gone.socket.write(`${head(doors.bulk, 5_000_000)}[{"message":"half`)
  gone.socket.resetAndDestroy()
  const slow = await dial(t, server)
  slow.socket.write(head(doors.events, 100_000))
  const drip = setInterval(() => slow.socket.write(' '), 200)
  t.after(() => clearInterval(drip))

  // All of them at once, and others are served meanwhile.
  let served = 0
  let waiting = true
  const serving = (async () => {
    while (waiting) {
      await server.send({ message: 'meanwhile' })
      served += 1
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  })()
  await Promise.all(
    [silent, halfHeader, halfBody, halfOpen, garbage, handshake, slow].map((one) => one.closed),
  ).finally(() => {
    waiting = false
  })
  await serving
  assert.ok(served > 3)
  for (const one of [halfBody, slow]) assert.doesNotMatch(one.text(), /HTTP\/1\.1 2/)
  await assertWell(server, served)
})
