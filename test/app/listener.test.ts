// NOTIFY is at most once: what is sent while the listener is away is gone. So whatever happens to the connection, the open
// streams get the missed messages from the tables, or are told of a gap. None is silently short.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { maxReplay } from '../../server/protocol.ts'
import { startApp, type TestApp } from '../support/app.ts'
import type { TestDatabase } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { committed, follow, holds } from '../support/follower.ts'
import { sendLoad } from '../support/load.ts'
import { type DatabaseProxy, startBehindProxy } from '../support/proxy.ts'
import { createRandom } from '../support/random.ts'
import { openStream, type StreamClient } from '../support/stream.ts'
import { within } from '../support/within.ts'

const listener = 'mesher listener'
/** Each once: what was told shortly before the listener was lost is told again. */
const titles = (client: StreamClient) => [...new Set(client.ofType('event').map((message) => message.data.title))]
const ids = (client: StreamClient) => client.ofType('event').map((message) => message.data.id)

/** Ends backends whose application_name is like that; returns how many there were. */
async function terminate(database: TestDatabase, name: string): Promise<number> {
  const rows = await database.sql(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name like $1 and pid <> pg_backend_pid()`,
    [name],
  )
  return rows.length
}

async function insertEvents(database: TestDatabase, server: TestApp, issueId: string, title: string, count: number) {
  await database.sql(
    'insert into events (project_id, issue_id, title) select $1, $2, $3 from generate_series(1, $4::int)',
    [server.project_id, issueId, title, count],
  )
}

/** While the listener is kept away. */
async function whileDeaf(server: TestApp, proxy: DatabaseProxy, work: () => Promise<void>) {
  const lost = server.log.next('listener.lost')
  proxy.refuse(listener)
  await within('listener.lost', lost)
  await work()
  const live = server.log.next('relay.live')
  proxy.allow(listener)
  await within('relay.live', live)
}

test('The listener is terminated again and again under load, and no open stream is short of anything', async (t) => {
  const random = createRandom()
  const server = await startApp(t)
  const all = await server.stream()
  const errors = await server.stream({ level: ['error'] })
  for (let times = 0; times < 8; times++) {
    const load = sendLoad([server], random, { events: 110 })
    await all.next('event')
    const live = server.log.next('relay.live')
    assert.equal(await terminate(server.database, listener), 1, 'there is one listener')
    await Promise.all([within('relay.live', live), load])
  }
  await eventually(async () => {
    const expected = await committed(server.database, server.project_id)
    assert.deepEqual([...new Set(ids(all))].sort(), expected.events, `seed ${random.seed}`)
    assert.equal(all.ofType('issue_count').at(-1)?.count, expected.unresolved)
    const filtered = await committed(server.database, server.project_id, { level: ['error'] })
    assert.deepEqual([...new Set(ids(errors))].sort(), filtered.events, `seed ${random.seed}`)
    const changes = new Set(all.ofType('issue').map((message) => `${message.action} ${message.issue_id}`))
    assert.deepEqual([...changes].sort(), expected.issues)
  })
  assert.deepEqual([all.ofType('gap'), all.ofType('resync')], [[], []], 'all that was missed could be sent')
})

test('Every connection to the database is terminated under load, and what was accepted is stored and shown', async (t) => {
  const random = createRandom()
  const server = await startApp(t, { databaseGrace: 10_000 })
  const followers = [follow(t, server), follow(t, server, { environment: ['production'] })]
  await Promise.all(followers.map((follower) => follower.ready))
  for (let times = 0; times < 5; times++) {
    const load = sendLoad([server], random, { events: 100 })
    const live = server.log.next('relay.live')
    await terminate(server.database, 'mesher%')
    await within('relay.live', live)
    followers[times % 2]!.cut()
    await load
  }
  const [stored] = await server.database.sql<{ count: number }>('select count(*)::int as count from events')
  assert.equal(stored!.count, 500, 'what was sent again after an unsure answer is stored once')
  await holds(followers[0]!, await committed(server.database, server.project_id), `seed ${random.seed}`)
  const production = await committed(server.database, server.project_id, { environment: ['production'] })
  await holds(followers[1]!, production, `filtered, seed ${random.seed}`)
})

test('Notifications that are nobody’s of ours are ignored', async (t) => {
  const server = await startApp(t)
  const client = await server.stream()
  const stranger = await server.database.connect('stranger')
  await server.send({ message: 'before' })
  const counted = { project_id: server.project_id, unresolved: 7, version: 99, cursor: '1' }
  const garbage = [
    '',
    'hello',
    '{',
    '[]',
    'null',
    '"x"',
    '{}',
    { action: 'dance', ...counted },
    { action: 'events', ...counted },
    { action: 'events', ...counted, project_id: '0', events: [] },
    { action: 'events', ...counted, cursor: '-1', events: [] },
    { action: 'issues', ...counted, unresolved: -1, issues: [] },
    { action: 'bulk', ...counted, changes: 'many' },
    { action: 'keys', public_key: server.public_key },
    { action: 'tokens', token_id: 1, revoked: true },
    { action: 'heartbeat', from: 'a stranger', beat: 1 },
    '{"action":'.repeat(700),
  ]
  for (const payload of garbage) {
    await stranger.query('select pg_notify($1, $2)', [
      'mesher',
      payload === '' || typeof payload === 'string' ? payload : JSON.stringify(payload),
    ])
  }
  await server.send({ message: 'after' })
  await client.next('event', (message) => message.data.title === 'after')
  assert.deepEqual(titles(client), ['before', 'after'])
  assert.deepEqual([...new Set(client.received.map((message) => message.type))].sort(), [
    'event',
    'issue',
    'issue_count',
    'subscribed',
  ])
  assert.equal(client.ofType('issue_count').at(-1)?.count, 2)
  const refused = server.log.lines.filter((line) => line.name === 'listener.foreign_payload')
  assert.equal(refused.length, garbage.length)
  assert.equal(server.log.lines.filter((line) => line.name === 'listener.lost').length, 0)
})

test('A transaction that stays open for long makes replays longer, and loses nothing', async (t) => {
  const random = createRandom()
  const server = await startApp(t)
  const { id: first, issue_id } = await server.send({ message: 'there is an issue' })
  const slow = await server.database.connect()
  await slow.query('begin')
  await slow.query(`update issues set assigned_to = 'slow' where id = $1`, [issue_id])
  const open = await server.stream()
  const follower = follow(t, server)
  await follower.ready
  await sendLoad([server], random, { events: 200 })
  const live = server.log.next('relay.live')
  await terminate(server.database, listener)
  await within('relay.live', live)
  follower.cut()
  await sendLoad([server], random, { events: 100 })
  await slow.query('commit')
  await server.send({ message: 'marker' })
  await open.next('event', (message) => message.data.title === 'marker')
  // The first may come again: no heartbeat need have moved the cursor beyond it when the listener was lost.
  assert.equal(new Set(ids(open).filter((id) => id !== first)).size, 301)
  const assigned = open.ofType('issue').filter((message) => message.action === 'assigned')
  assert.deepEqual(
    assigned.map((message) => message.issue_id),
    [issue_id],
  )
  const expected = await committed(server.database, server.project_id)
  await holds(
    follower,
    {
      ...expected,
      // It came later than the first event and its issue.
      events: expected.events.filter((id) => follower.events.has(id) || ids(open).includes(id)),
      issues: expected.issues.filter((change) => change !== `created ${issue_id}` || follower.issues.has(change)),
    },
    `seed ${random.seed}`,
  )
})

test('What was committed while the listener could not connect arrives when it can', async (t) => {
  const { server, database, proxy } = await startBehindProxy(t)
  const client = await server.stream()
  const staging = await server.stream({ environment: ['staging'] })
  const { issue_id } = await server.send({ message: 'heard' })
  await client.next('event')
  await whileDeaf(server, proxy, async () => {
    for (const environment of ['production', 'staging'])
      await server.send({ message: `missed ${environment}`, environment })
    await database.sql("update issues set status = 'resolved' where id = $1", [issue_id])
    assert.equal((await server.api<{ ready: boolean }>('GET', '/readyz')).status, 503)
    assert.deepEqual(titles(client), ['heard'])
  })
  const resolved = await client.next('issue', (message) => message.action === 'resolved')
  assert.equal(resolved.issue_id, issue_id)
  await server.send({ message: 'heard again', environment: 'staging' })
  await client.next('event', (message) => message.data.title === 'heard again')
  await staging.next('event', (message) => message.data.title === 'heard again')
  assert.deepEqual(titles(client).sort(), ['heard', 'heard again', 'missed production', 'missed staging'])
  assert.deepEqual(titles(staging), ['missed staging', 'heard again'])
  const { unresolved } = await committed(database, server.project_id)
  await eventually(() => assert.equal(client.ofType('issue_count').at(-1)?.count, unresolved))
})

test('A client that connects while the listener is away is subscribed when it is back, and misses nothing after', async (t) => {
  const { server, proxy } = await startBehindProxy(t)
  const since = (await server.stream()).cursor()
  const url = `${server.url.replace('http', 'ws')}/stream/projects/app`
  const clients = [openStream(t, url, server.token), openStream(t, url, server.token, { since })]
  for (const client of clients) await client.next('subscribed')
  await whileDeaf(server, proxy, async () => {
    clients.push(openStream(t, url, server.token), openStream(t, url, server.token, { since }))
    await Promise.all(clients.slice(2).map(({ socket }) => once(socket, 'open')))
    await server.send({ message: 'unheard' })
    for (const client of clients.slice(2)) {
      client.send({ type: 'ping' })
      assert.deepEqual(client.received, [], 'nothing is promised yet')
    }
  })
  for (const client of clients.slice(2)) {
    await client.next('subscribed')
    assert.equal(client.received[0]?.type, 'subscribed', 'it comes first')
    await client.next('pong')
  }
  await server.send({ message: 'heard' })
  for (const client of clients) await client.next('event', (message) => message.data.title === 'heard')
  const seen = clients.map(titles)
  assert.deepEqual([seen[0], seen[1], seen[3]], Array(3).fill(['unheard', 'heard']))
})

test('A reader of ordinary speed gets a large catch-up whole, though it is more than a socket may hold', async (t) => {
  const { server, database, proxy } = await startBehindProxy(t)
  const { issue_id } = await server.send({ message: 'there is an issue' })
  const followers = [follow(t, server), follow(t, server, { level: ['error'] })]
  await Promise.all(followers.map((follower) => follower.ready))
  const before = await committed(database, server.project_id)
  await whileDeaf(server, proxy, () =>
    insertEvents(database, server, issue_id, 'a long title that makes it larger than a buffer '.repeat(4), 8_000),
  )
  await server.send({ message: 'marker', fingerprint: ['marker'] })
  const expected = await committed(database, server.project_id)
  const missed = { ...expected, events: expected.events.filter((id) => !before.events.includes(id)) }
  missed.issues = expected.issues.filter((change) => !before.issues.includes(change))
  for (const [index, follower] of followers.entries()) {
    for (const id of before.events) follower.events.delete(id)
    for (const change of before.issues) follower.issues.delete(change)
    await holds(follower, missed, `follower ${index}, gaps: ${follower.gaps.join(' ')}`)
    assert.deepEqual(follower.resyncs, [])
  }
})

test('When more was missed than is replayed, open streams are told of a gap, and go on', async (t) => {
  const { server, database, proxy } = await startBehindProxy(t)
  const client = await server.stream()
  const filtered = await server.stream({ environment: ['nowhere'] })
  const { issue_id } = await server.send({ message: 'heard' })
  await client.next('event')
  await whileDeaf(server, proxy, async () => {
    await insertEvents(database, server, issue_id, 'missed', maxReplay + 1)
    await server.send({ message: 'missed too', fingerprint: ['new while deaf'] })
  })
  const gap = await client.next('gap')
  assert.deepEqual([gap.reason, gap.dropped, gap.project_id], ['listener_lost', null, server.project_id])
  assert.equal((await filtered.next('gap')).reason, 'listener_lost', 'a gap is told whatever the filters')
  assert.equal((await client.next('issue_count')).count, 2)
  await server.send({ message: 'heard again' })
  assert.equal((await client.next('event')).data.title, 'heard again')

  const resumed = await server.stream({ since: gap.cursor })
  assert.equal((await resumed.next('resync')).reason, 'cursor_too_old', 'nothing is skipped silently')
})

test('A listener that has gone deaf without a word is noticed and built anew', async (t) => {
  const { server, proxy } = await startBehindProxy(t, { heartbeat: 200 })
  const client = await server.stream()
  await server.send({ message: 'heard' })
  await client.next('event')
  const lost = server.log.next('listener.lost')
  const live = server.log.next('relay.live')
  proxy.swallow(listener)
  await server.send({ message: 'unheard' })
  assert.match(String((await within('listener.lost', lost)).reason), /no heartbeat/)
  await within('relay.live', live)
  await client.next('event', (message) => message.data.title === 'unheard')
  await server.send({ message: 'heard again' })
  await client.next('event', (message) => message.data.title === 'heard again')
  assert.deepEqual(titles(client), ['heard', 'unheard', 'heard again'])
})

test('A key and a token that are revoked while nobody listens close their sockets all the same', async (t) => {
  const { server, database, proxy } = await startBehindProxy(t)
  const client = await server.stream()
  const ingest = new WebSocket(`${server.url.replace('http', 'ws')}/ingest?sentry_key=${server.public_key}`)
  t.after(() => ingest.terminate())
  await within('open', once(ingest, 'open'))
  const closed = once(ingest, 'close')
  await server.send({ message: 'the key is cached' })
  await client.next('event')
  await whileDeaf(server, proxy, async () => {
    await database.sql('update project_keys set revoked_at = now()')
    await database.sql('update api_tokens set revoked_at = now()')
  })
  assert.equal((await within('the close', client.closed)).code, 4401)
  assert.equal((await within('the close', closed))[0], 4401)
  await assert.rejects(server.send({ message: 'refused' }), /^Error: 403/)
  assert.equal((await server.api('GET', '/api/v1/projects')).status, 401)
})

test('A socket that opens while a reconnected listener asks about revoked tokens is no part of the question', async (t) => {
  const server = await startApp(t)
  const first = await server.stream()
  const token = `msh_${'5'.repeat(40)}`
  await server.database.sql(
    `insert into api_tokens (organization_id, name, token_hash)
     select organization_id, 'second', sha256(convert_to($1, 'utf8')) from api_tokens`,
    [token],
  )
  const ingest = new WebSocket(`${server.url.replace('http', 'ws')}/ingest?sentry_key=${server.public_key}`)
  t.after(() => ingest.terminate())
  await within('open', once(ingest, 'open'))
  // The question about keys comes after the one about tokens, and cannot end before this lock does.
  const person = await server.database.connect()
  await person.query('begin')
  await person.query('lock table project_keys in access exclusive mode')
  await terminate(server.database, listener)
  const waiting = async (expected: number) => {
    const rows = await server.database.sql(
      `select from pg_stat_activity where datname = current_database() and application_name = 'mesher'
          and wait_event_type = 'Lock' and query like '%project_keys%'`,
    )
    assert.equal(rows.length, expected)
  }
  await eventually(() => waiting(1))
  const url = `${server.url.replace('http', 'ws')}/stream/projects/app`
  const second = openStream(t, url, token)
  await second.next('subscribed')
  await person.query('rollback')
  await eventually(() => waiting(0))
  await server.send({ message: 'both are open' })
  for (const client of [first, second]) await client.next('event')
  await server.send({ message: 'and stay open' })
  for (const client of [first, second]) assert.equal((await client.next('event')).data.title, 'and stay open')
})

test('A row made by hand that no message can say is told as resync, live and to who was away, and stops nobody', async (t) => {
  const server = await startApp(t)
  const client = await server.stream()
  const { issue_id } = await server.send({ message: 'ordinary' })
  await client.next('event')
  const since = client.cursor()
  await server.database.sql(
    "insert into events (project_id, issue_id, title, timestamp) values (1, $1, 'by hand', 'infinity')",
    [issue_id],
  )
  assert.equal((await client.next('resync')).reason, 'bulk_change')
  const back = await server.stream({ since })
  await back.next('resync')
  await server.send({ message: 'after' })
  for (const one of [client, back]) await one.next('event', (message) => message.data.title === 'after')
})
