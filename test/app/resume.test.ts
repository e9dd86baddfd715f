// A client that lost its connection comes back with its last cursor, and then has everything that was committed, or is told
// to read anew. The cursor is a transaction horizon, so the hard cases are transactions that commit out of order.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { maxReplay, type ServerMessage } from '../../server/protocol.ts'
import { startApp, type TestApp } from '../support/app.ts'
import type { TestDatabase } from '../support/database.ts'
import { committed, follow, holds } from '../support/follower.ts'
import { sendLoad } from '../support/load.ts'
import { createRandom, type Random } from '../support/random.ts'
import type { StreamClient } from '../support/stream.ts'
import { within } from '../support/within.ts'

/** The identity of what a message tells; null for what is no change. */
function changeOf(message: ServerMessage): string | null {
  if (message.type === 'event') return `event ${message.data.id}`
  if (message.type === 'issue') return `issue ${message.action} ${message.issue_id}`
  return null
}

const changesOf = (messages: ServerMessage[]) => messages.map(changeOf).filter((change) => change !== null)

/** Everything up to a change that is made now: whatever was committed before has arrived with it, or never will. */
async function passMarker(server: TestApp, client: StreamClient): Promise<ServerMessage[]> {
  const { issue_id } = await server.send({ message: 'marker', fingerprint: [`marker ${Math.random()}`] })
  await client.next('issue', (message) => message.issue_id === issue_id)
  return client.received.slice(0, -1)
}

async function insertEvent(client: pg.Client, server: TestApp, issueId: string, title: string, count = 1) {
  await client.query(
    'insert into events (project_id, issue_id, title) select $1, $2, $3 from generate_series(1, $4::int)',
    [server.project_id, issueId, title, count],
  )
}

const titles = (client: StreamClient) => client.ofType('event').map((message) => message.data.title)

/** People who act on issues that get no more events, so that each action on an issue happens once. */
async function act(database: TestDatabase, server: TestApp, random: Random, actions: number) {
  const person = await database.connect()
  for (let n = 0; n < actions; n++) {
    const { issue_id } = await server.send({ message: 'acted upon', fingerprint: [`acted upon ${n}`] })
    const change = random.pick(["status = 'resolved'", "status = 'archived'", "assigned_to = 'ada'", 'delete'])
    if (change === 'delete') await person.query('delete from issues where id = $1', [issue_id])
    else await person.query(`update issues set ${change} where id = $1`, [issue_id])
    await person.query('begin')
    await person.query("update issues set title = 'never', assigned_to = 'nobody' where id = $1", [issue_id])
    await person.query('rollback')
  }
}

test('Clients that are cut off at random under load have, in the end, exactly what was committed', async (t) => {
  const random = createRandom()
  const server = await startApp(t)
  const filters = [
    {},
    {},
    { level: ['error' as const] },
    { environment: ['production'] },
    { level: ['fatal' as const, 'warning' as const], environment: ['staging', 'production'] },
  ]
  const followers = filters.map((one) => follow(t, server, one))
  await Promise.all(followers.map((follower) => follower.ready))
  let messages = 0
  let cutAt = 20
  const cutter = follow(t, server, {
    // Cut by what passes, not by the clock: about every thirtieth message, somewhere among the others.
    onMessage() {
      messages += 1
      if (messages < cutAt) return
      cutAt += 10 + random.below(40)
      random.pick(followers).cut()
    },
  })
  await cutter.ready
  await Promise.all([sendLoad([server], random, { events: 600 }), act(server.database, server, random, 40)])
  const cuts = followers.reduce((sum, follower) => sum + follower.connections - 1, 0)
  assert.ok(cuts > 5, `${cuts} cuts`)
  for (const [index, follower] of [...followers, cutter].entries()) {
    const expected = await committed(server.database, server.project_id, filters[index] ?? {})
    // Events of a deleted issue are gone with it: a client may have seen them or not.
    const gone = new Set(await goneEvents(server))
    for (const id of follower.events) if (gone.has(id)) follower.events.delete(id)
    await holds(follower, expected, `follower ${index}, seed ${random.seed}`)
    assert.deepEqual([follower.gaps, follower.resyncs], [[], []])
  }
})

async function goneEvents(server: TestApp): Promise<string[]> {
  const rows = await server.database.sql<{ id: string }>(
    "select replace(event_id::text, '-', '') as id from event_ids i where not exists (select from events e where e.id = i.event_id)",
  )
  return rows.map(({ id }) => id)
}

test('Every cursor a client was ever sent gives everything that came after it', async (t) => {
  const random = createRandom()
  const server = await startApp(t)
  const witness = await server.stream()
  // A transaction that takes its number early and commits late lies across all of it.
  const { issue_id } = await server.send({ message: 'there is an issue' })
  const slow = await server.database.connect()
  await slow.query('begin')
  await insertEvent(slow, server, issue_id, 'slow')
  const load = sendLoad([server], random, { events: 300 })
  await witness.next('event', () => witness.ofType('event').length > 150)
  await slow.query('commit')
  await load
  const everything = await passMarker(server, witness)
  await checkCursors(server, random, everything, [])
})

test('So does every cursor within a replay, while a transaction is open and after it', async (t) => {
  const random = createRandom()
  const server = await startApp(t)
  const first = (await server.stream()).cursor()
  const { issue_id } = await server.send({ message: 'there is an issue' })
  await sendLoad([server], random, { events: 150 })
  const slow = await server.database.connect()
  await slow.query('begin')
  await insertEvent(slow, server, issue_id, 'slow', 3)
  await sendLoad([server], random, { events: 150 })
  const replayed = await server.stream({ since: first })
  await replayed.next('mark')
  const everything = [...replayed.received]
  await checkCursors(server, random, everything, [])
  await slow.query('commit')
  const rows = await server.database.sql<{ id: string }>(
    "select replace(id::text, '-', '') as id from events where title = 'slow'",
  )
  await checkCursors(
    server,
    random,
    everything,
    rows.map(({ id }) => `event ${id}`),
  )
})

/** Resumes from cursors of a client's messages: what came after each, and what was committed since, has to be given. */
async function checkCursors(server: TestApp, random: Random, messages: ServerMessage[], since: string[]) {
  const cursors = messages.flatMap((message, at) => ('cursor' in message ? [{ at, cursor: message.cursor }] : []))
  for (const { at, cursor } of random.shuffled(cursors).slice(0, 40)) {
    const client = await server.stream({ since: cursor })
    await client.next('mark')
    const given = new Set(changesOf(client.received))
    const missing = [...changesOf(messages.slice(at + 1)), ...since].filter((change) => !given.has(change))
    assert.deepEqual(missing, [], `after message ${at} with cursor ${cursor}, seed ${random.seed}`)
    client.socket.close()
  }
}

test('Transactions that commit in another order than they began are all resumed', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'there is an issue' })
  const [first, second] = [await server.database.connect(), await server.database.connect()]
  const before = await server.stream()
  await first.query('begin')
  await insertEvent(first, server, issue_id, 'began first')
  await second.query('begin')
  await insertEvent(second, server, issue_id, 'began second')
  await second.query('commit')
  assert.equal((await before.next('event')).data.title, 'began second')
  before.socket.terminate()

  // One resumes before the first commits, one after.
  const early = await server.stream({ since: before.cursor() })
  await early.next('mark')
  early.socket.terminate()
  await first.query('commit')
  const late = await server.stream({ since: early.cursor() })
  await late.next('mark')
  assert.ok(titles(late).includes('began first'), 'the cursor did not pass a transaction that was still open')
  const straight = await server.stream({ since: before.cursor() })
  await straight.next('mark')
  // Anybody's open transaction holds a cursor back, so the replay may begin earlier.
  const later = titles(straight).filter((title) => title !== 'there is an issue')
  assert.deepEqual(later.sort(), ['began first', 'began second'])
})

test('A transaction that took its number long before it wrote is not missed by a client that resumed in between', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'there is an issue' })
  const slow = await server.database.connect()
  await slow.query('begin')
  await slow.query('select pg_current_xact_id()')
  const client = await server.stream()
  for (const title of ['one', 'two', 'three']) await server.send({ message: title })
  await client.next('event', (message) => message.data.title === 'three')
  client.socket.terminate()
  const resumed = await server.stream({ since: client.cursor() })
  await resumed.next('mark')
  resumed.socket.terminate()
  await insertEvent(slow, server, issue_id, 'late event')
  await slow.query("update issues set assigned_to = 'late' where id = $1", [issue_id])
  await slow.query('commit')
  await server.send({ message: 'after' })
  const last = await server.stream({ since: resumed.cursor() })
  await last.next('mark')
  assert.ok(titles(last).includes('late event'))
  assert.deepEqual(
    last
      .ofType('issue')
      .filter((message) => message.action === 'assigned')
      .map((message) => message.issue_id),
    [issue_id],
  )
})

test('As many missed changes as are kept are replayed to a reader of ordinary speed, one more is a resync', async (t) => {
  const server = await startApp(t)
  const before = await server.stream()
  before.socket.terminate()
  await within('the close', before.closed)
  // A new issue and its event are two changes.
  const { issue_id } = await server.send({ message: 'there is an issue' })
  const person = await server.database.connect()
  const title = 'a long title that makes the replay larger than what a socket may hold '.repeat(3)
  await insertEvent(person, server, issue_id, title, maxReplay - 2)

  const client = await server.stream({ since: before.cursor() })
  await client.next('mark')
  const ids = new Set(client.ofType('event').map((message) => message.data.id))
  // At least once: a transaction that is open anywhere in the cluster holds the horizon back, and a second read repeats.
  const changes = new Set(client.ofType('issue').map((message) => `${message.action} ${message.issue_id}`))
  assert.deepEqual([ids.size, [...changes]], [maxReplay - 1, [`created ${issue_id}`]])
  assert.deepEqual([client.ofType('gap'), client.ofType('resync')], [[], []])

  await insertEvent(person, server, issue_id, 'one more')
  const late = await server.stream({ since: before.cursor() })
  const resync = await late.next('resync')
  assert.equal(resync.reason, 'cursor_too_old')
  assert.deepEqual(titles(late), [])
  await server.send({ message: 'live again' })
  await late.next('event', (message) => message.data.title === 'live again')
  const again = await server.stream({ since: resync.cursor })
  await again.next('event', (message) => message.data.title === 'live again')
  assert.deepEqual(again.ofType('resync'), [], 'the cursor of a resync may be resumed from')
})

test('A cursor of another life of the data, or of the future, is answered with resync', async (t) => {
  const server = await startApp(t)
  const client = await server.stream()
  const [epoch, xid] = client.cursor().split('-') as [string, string]
  const [system, timeline] = epoch.split('.') as [string, string]
  const foreign = [
    `1${system.slice(1, -1)}0.${timeline}-${xid}`,
    `${system}.0000FFFF-${xid}`,
    `${epoch}-${BigInt(xid) + 1_000_000n}`,
    `${epoch}-18446744073709551615`,
  ]
  for (const since of foreign) {
    const other = await server.stream({ since })
    const resync = await other.next('resync')
    assert.equal(resync.reason, 'cursor_foreign', since)
    await server.send({ message: since })
    assert.equal((await other.next('event')).data.title, since, 'and goes on live')
    client.send({ type: 'subscribe', sample: false, filters: {}, since, ref: since })
    assert.equal((await client.next('filters_updated')).ref, since)
    assert.equal((await client.next('resync')).reason, 'cursor_foreign', since)
  }
})

test('What is no cursor of this server is answered with resync, so that its client does not come back with it for ever', async (t) => {
  const server = await startApp(t)
  const client = await server.stream({ level: ['error'] })
  const [epoch] = client.cursor().split('-')
  const malformed = ['', '0', 'yesterday', `${epoch}`, `${epoch}-`, `${epoch}-1e3`, `${epoch}--1`, `${epoch}-1 `, '1-1']
  malformed.push(`${epoch}-18446744073709551616`, `${epoch}-99999999999999999999`, `${epoch}-${'1'.repeat(100)}`)
  for (const [ref, since] of malformed.entries()) {
    const fresh = await server.stream({ since: since || ' ' })
    assert.equal((await fresh.next('resync')).reason, 'cursor_foreign', since)
    client.send({ type: 'subscribe', sample: false, filters: { level: 'error' }, since, ref })
    assert.equal((await client.next('filters_updated')).ref, ref)
    assert.equal((await client.next('resync')).reason, 'cursor_foreign', since)
  }
  await server.send({ message: 'hidden', level: 'info' })
  await server.send({ message: 'shown', level: 'error' })
  assert.equal((await client.next('event')).data.title, 'shown')
})

test('A subscribe message with a cursor replays on the open socket, under the new filters', async (t) => {
  const server = await startApp(t)
  const client = await server.stream({ level: ['fatal'] })
  const since = client.cursor()
  for (const level of ['error', 'info', 'fatal']) await server.send({ message: `first ${level}`, level })
  await client.next('event')
  client.send({ type: 'subscribe', sample: false, filters: { level: ['error', 'info'] }, since, ref: 'again' })
  const answer = await client.next('filters_updated')
  assert.deepEqual([answer.ref, answer.unresolved, answer.cursor], ['again', 3, since])
  await client.next('mark')
  await server.send({ message: 'second info', level: 'info' })
  await server.send({ message: 'second fatal', level: 'fatal' })
  await client.next('event', (message) => message.data.title === 'second info')
  await passMarker(server, client)
  assert.deepEqual(
    titles(client).filter((title) => title !== 'marker'),
    ['first fatal', 'first error', 'first info', 'second info'],
  )
})

test('A client whose filters match nothing gets a fresh cursor with every mark', async (t) => {
  const server = await startApp(t, { markEvery: 50 })
  const client = await server.stream({ environment: ['nowhere'] })
  const first = client.cursor()
  for (let n = 0; n < 20; n++) await server.send({ message: 'of one issue' })
  const [last] = await server.database.sql<{ xid: string }>('select max(xid)::text as xid from events')
  const xidOf = (cursor: string) => BigInt(cursor.split('-')[1]!)
  const mark = await client.next('mark', (message) => xidOf(message.cursor) > BigInt(last!.xid))
  assert.ok(xidOf(mark.cursor) > xidOf(first))
  assert.ok(Date.parse(mark.server_time) > 0)
  assert.deepEqual(titles(client), [])
  client.socket.terminate()
  await server.send({ message: 'while away', fingerprint: ['while away'] })
  // With that cursor, and open filters, only what came after it is sent.
  const resumed = await server.stream({ since: mark.cursor })
  await resumed.next('mark')
  assert.deepEqual(titles(resumed), ['while away'])
})

test('Fifty clients that come back at once all get what they missed', async (t) => {
  const random = createRandom()
  const server = await startApp(t)
  const followers = Array.from({ length: 50 }, () => follow(t, server))
  await Promise.all(followers.map((follower) => follower.ready))
  const load = sendLoad([server], random, { events: 500 })
  for (const follower of followers) follower.leave()
  await sendLoad([server], random, { events: 200 })
  for (const follower of followers) follower.comeBack()
  await load
  const expected = await committed(server.database, server.project_id)
  for (const [index, follower] of followers.entries()) {
    await holds(follower, expected, `follower ${index} of 50, seed ${random.seed}`)
  }
})

test('A client that was away while the issues were truncated is told to read its state anew', async (t) => {
  const server = await startApp(t)
  await server.send({ message: 'gone soon' })
  const before = await server.stream()
  const since = before.cursor()
  before.socket.terminate()
  await server.database.sql('truncate issues cascade')
  const back = await server.stream({ since })
  assert.equal((await back.next('resync')).reason, 'bulk_change')
  assert.equal((await back.next('issue_count')).count, 0)
})
