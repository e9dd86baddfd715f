// Subscribers that stop reading: what they cost (a bounded buffer each), whom (nobody else), and what they miss (nothing,
// once they come back with their cursor).

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { startApp, type TestApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'
import { committed, follow, holds } from '../support/follower.ts'
import type { StreamClient } from '../support/stream.ts'

/** Inserts events of about 2.5 KB each on the stream, in small transactions on four connections at once. */
async function flood(server: TestApp, events: number): Promise<void> {
  const [issue] = await server.database.sql<{ id: string }>(
    `insert into issues (project_id, short_id, title, level) values ($1, 'FLOOD-' || gen_random_uuid(), 'flood', 'error') returning id`,
    [server.project_id],
  )
  let left = events
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      const client = await server.database.connect('test flood')
      while (left > 0) {
        const count = Math.min(left, 20)
        left -= count
        await client.query(
          `insert into events (project_id, issue_id, title, culprit, message, transaction, server_name, user_key, release, environment)
           select $1, $2, t, t, t, t, t, t, t, left(t, 64)
             from (select n || repeat('é', 170) as t from generate_series(1, $3) n) x`,
          [server.project_id, issue!.id, count],
        )
      }
    }),
  )
}

/** Nearly twice what the kernel's buffers of one connection and the server's share of it hold together. */
const plenty = 3_000

/** A client that does not read from the moment it is subscribed. */
async function openSlow(server: TestApp): Promise<StreamClient> {
  const client = await server.stream()
  client.socket.pause()
  return client
}

const idsOf = (client: StreamClient) => client.ofType('event').map((event) => event.data.id)

async function gaps(server: TestApp): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  return Number(/^stream_gaps_total\{reason="slow_consumer"\} (\d+)$/m.exec(text)?.[1] ?? 0)
}

async function start(t: TestContext, options: Parameters<typeof startApp>[1] = {}) {
  const server = await startApp(t, options)
  const healthy = follow(t, server)
  await healthy.ready
  return { server, healthy }
}

test('A subscriber that reads again in time is told of the gap, and misses nothing when it resumes', async (t) => {
  const { server, healthy } = await start(t, { slowLimit: 60_000 })
  const slow = await openSlow(server)
  await flood(server, plenty)
  const all = await committed(server.database, server.project_id)
  await holds(healthy, all, 'who reads gets everything meanwhile')
  assert.equal(slow.ofType('gap').length, 0)

  slow.socket.resume()
  const gap = await slow.next('gap')
  assert.deepEqual([gap.reason, gap.project_id], ['slow_consumer', server.project_id])
  const before = idsOf(slow)
  assert.ok(before.length < plenty, 'it was really short')
  assert.equal(new Set(before).size, before.length)
  assert.equal(await gaps(server), 1 + healthy.gaps.length)
  assert.ok(!server.log.lines.some((line) => line.name === 'stream.slow_consumer'))

  // Without resuming it is live again: what is committed from now on arrives.
  const later = await server.send({ message: 'later' })
  await slow.next('event', (event) => event.data.id === later.id)
  // Whoever resumes on the same socket, or on another one, gets what was lost.
  slow.send({ type: 'subscribe', sample: false, filters: {}, since: gap.cursor, ref: 'again' })
  await slow.next('filters_updated', (message) => message.ref === 'again')
  const resumed = await server.stream({ since: gap.cursor })
  const expected = [...all.events, later.id].sort()
  for (const client of [slow, resumed]) {
    await eventually(() => {
      const seen = new Set([...before, ...idsOf(client)])
      assert.equal(expected.filter((id) => !seen.has(id)).length, 0)
    }, 20_000)
  }
})

test('A subscriber that stays slow is closed, and coming back with its last cursor it misses nothing', async (t) => {
  const { server, healthy } = await start(t, { slowLimit: 300 })
  const closed = server.log.next('stream.slow_consumer')
  const slow = await openSlow(server)
  await flood(server, plenty)
  assert.equal((await closed).project_id, server.project_id)
  const marker = await server.send({ message: 'marker' })
  const all = await committed(server.database, server.project_id)
  await holds(healthy, all, 'the others get everything')

  slow.socket.resume()
  const { code } = await slow.closed
  assert.ok([1006, 4408].includes(code), `closed with ${code}`)
  assert.ok(!idsOf(slow).includes(marker.id))
  const back = await server.stream({ since: slow.cursor() })
  await back.next('event', (event) => event.data.id === marker.id)
  const seen = new Set([...idsOf(slow), ...idsOf(back)])
  assert.equal(all.events.filter((id) => !seen.has(id)).length, 0)
  assert.deepEqual(healthy.closes, [])
})

test('Many subscribers that do not read cost a bounded share of memory, and the others see everything', async (t) => {
  const { server, healthy } = await start(t, { slowLimit: 120_000 })
  const many = 40
  const slow = await Promise.all(Array.from({ length: many }, () => openSlow(server)))
  await flood(server, 500)
  globalThis.gc?.()
  const before = process.memoryUsage().rss
  await flood(server, 4_000)
  const all = await committed(server.database, server.project_id)
  await holds(healthy, all, 'the others get everything')
  const grown = (process.memoryUsage().rss - before) / 2 ** 20
  // 4,000 messages of 2.5 KB to 40 sockets are 400 MB, of which the kernel holds a third; 1 MiB each is 40. The rest is what
  // this test itself holds.
  assert.ok(grown < 200, `${Math.round(grown)} MiB more than before`)
  for (const client of slow) client.socket.resume()
  for (const client of slow) await client.next('gap')
})

test('A burst of thousands of messages closes nobody who reads, and nobody misses any of it', async (t) => {
  const { server, healthy } = await start(t, { slowLimit: 5_000 })
  const others = Array.from({ length: 20 }, () => follow(t, server))
  await Promise.all(others.map((one) => one.ready))
  const [issue] = await server.database.sql<{ id: string }>(
    `insert into issues (project_id, short_id, title, level) values ($1, 'BURST-1', 'burst', 'error') returning id`,
    [server.project_id],
  )
  await server.database.sql(
    `insert into events (project_id, issue_id, title, message) select $1, $2, 'burst ' || n, repeat('x', 190) from generate_series(1, 6000) n`,
    [server.project_id, issue!.id],
  )
  const all = await committed(server.database, server.project_id)
  for (const one of [healthy, ...others]) {
    await holds(one, all, 'a burst')
    assert.deepEqual([one.closes, one.connections, one.resyncs], [[], 1, []])
  }
})

test('A subscriber that does not read its own replay is closed, and the next one gets it whole', async (t) => {
  const { server } = await start(t, { slowLimit: 300 })
  const first = await server.stream()
  const cursor = first.cursor()
  first.socket.close()
  await flood(server, plenty)
  const closed = server.log.next('stream.slow_consumer')
  const stuck = await server.stream({ since: cursor })
  stuck.socket.pause()
  await closed
  const all = await committed(server.database, server.project_id)
  const other = follow(t, server, { since: cursor })
  await eventually(() => assert.equal(all.events.filter((id) => !other.events.has(id)).length, 0), 20_000)
})
