// PostgreSQL goes away and comes back: nothing that was acknowledged is lost, nobody waits without end, nobody restarts.

import assert from 'node:assert/strict'
import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { bootstrap } from '../../server/db/bootstrap.ts'
import { migrate } from '../../server/db/migrate.ts'
import { createDb, createPool } from '../../server/db/pool.ts'
import { createLog } from '../../server/log.ts'
import { createCluster } from '../../server/postgres/cluster.ts'
import { startApp, startAppOn, type TestApp, type TestAppOptions } from '../support/app.ts'
import { newId, wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart, query, type TestDatabase } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { committed, follow, holds } from '../support/follower.ts'
import { createProxy } from '../support/proxy.ts'
import { createRandom } from '../support/random.ts'
import { startSenders } from '../support/senders.ts'

/** A server whose way to PostgreSQL can be cut, while the test keeps its own. */
async function start(t: TestContext, options: TestAppOptions = {}) {
  const database = await createDatabase(t)
  const first = await firstStart(database)
  const proxy = await createProxy(t, database.url)
  const server = await startAppOn(t, { ...database, url: proxy.url }, first, options)
  const names = [
    'mesher',
    'mesher listener',
    'mesher writer 1',
    'mesher writer 2',
    'mesher writer blocked',
    'mesher maintenance',
  ]
  return {
    database,
    server: { ...server, database },
    cut: () => names.forEach(proxy.refuse),
    mend: () => names.forEach(proxy.allow),
  }
}

function post(server: TestApp, event: object): Promise<Response> {
  return fetch(`${server.url}/api/v1/events?sentry_key=${server.public_key}`, {
    method: 'POST',
    body: JSON.stringify(event),
  })
}

const readiness = async (server: TestApp) => (await fetch(`${server.url}/readyz`)).status

test('Events that come while PostgreSQL restarts are held, and accepted when it is back within the grace', async (t) => {
  const { server, cut, mend, database } = await start(t, { databaseGrace: 60_000 })
  const client = await server.stream()
  await server.send({ message: 'before' })
  const away = server.log.next('write.database_away')
  cut()
  const held = Array.from({ length: 10 }, (_, n) => post(server, { message: 'held', event_id: newId(), tags: { n } }))
  await away
  let answered = 0
  for (const one of held) one.then(() => answered++)
  await eventually(async () => assert.equal(await readiness(server), 503))
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200, 'the process itself is well')
  assert.equal(answered, 0, 'nothing is promised while nothing can be stored')
  mend()
  for (const response of await Promise.all(held)) assert.equal(response.status, 202)
  await eventually(async () => assert.equal(await readiness(server), 200))
  const [row] = await database.sql<{ n: string }>("select count(*) as n from events where title = 'held'")
  assert.equal(row!.n, '10')
  for (let n = 0; n < 10; n++) await client.next('event', (event) => event.data.title === 'held')
  assert.deepEqual(await wrongCounts(database), [])
})

test('When PostgreSQL stays away, every door answers 503 with a time to come back, and takes events again when it is there', async (t) => {
  const { server, cut, mend, database } = await start(t, { databaseGrace: 300 })
  const event = { message: 'again and again', event_id: newId() }
  await server.send({ message: 'before' })
  cut()
  const envelope = `{"event_id":"${event.event_id}"}\n{"type":"event"}\n${JSON.stringify(event)}\n`
  const sends: [door: string, path: string, body: string][] = [
    ['events', '/api/v1/events', JSON.stringify(event)],
    ['envelope', `/api/${server.project_id}/envelope/`, envelope],
    ['store', `/api/${server.project_id}/store/`, JSON.stringify(event)],
  ]
  for (let round = 0; round < 2; round++) {
    for (const [door, path, body] of sends) {
      const response = await fetch(`${server.url}${path}?sentry_key=${server.public_key}`, { method: 'POST', body })
      assert.equal(response.status, 503, `${door}, round ${round}`)
      assert.match(response.headers.get('retry-after') ?? '', /^[1-9]\d*$/, door)
      await response.arrayBuffer()
    }
  }
  const bulk = await fetch(`${server.url}/api/v1/events/bulk?sentry_key=${server.public_key}`, {
    method: 'POST',
    body: JSON.stringify([event]),
  })
  const { results } = (await bulk.json()) as { results: { status: string; code: string; retry_after: number }[] }
  assert.deepEqual([results[0]!.status, results[0]!.code], ['rejected', 'unavailable'])
  assert.ok(results[0]!.retry_after >= 1)
  assert.equal(await readiness(server), 503)
  // Neither is a failure of the server: a key that nobody has used yet, and the API.
  const fresh = await fetch(`${server.url}/api/v1/events?sentry_key=${'0'.repeat(32)}`, { method: 'POST', body: '{}' })
  assert.equal(fresh.status, 503)
  assert.match(fresh.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
  const issues = await server.api<{ error: { code: string } }>('GET', '/api/v1/projects/app/issues')
  assert.deepEqual([issues.status, issues.body.error.code], [503, 'unavailable'])

  mend()
  await eventually(async () => assert.equal((await post(server, event)).status, 202))
  await eventually(async () => assert.equal(await readiness(server), 200))
  const [row] = await database.sql<{ n: string }>("select count(*) as n from events where title = 'again and again'")
  assert.equal(row!.n, '1')
})

test('What others commit while the server cannot reach PostgreSQL is replayed to its subscribers', async (t) => {
  const { server, cut, mend, database } = await start(t, { databaseGrace: 300 })
  const subscriber = follow(t, server)
  const filtered = follow(t, server, { level: ['info'] })
  await Promise.all([subscriber.ready, filtered.ready])
  const { issue_id } = await server.send({ message: 'known' })
  const lost = server.log.next('listener.lost')
  cut()
  await lost
  await database.sql(
    `insert into events (project_id, issue_id, title, level)
     select $1, $2, 'by hand', case when n % 3 = 0 then 'info' else 'error' end from generate_series(1, 300) n`,
    [server.project_id, issue_id],
  )
  await database.sql("update issues set status = 'resolved'")
  mend()
  await holds(subscriber, await committed(database, server.project_id), 'all')
  await holds(filtered, await committed(database, server.project_id, { level: ['info'] }), 'info only')
  assert.deepEqual([subscriber.connections, subscriber.resyncs], [1, []], 'on the connections that they had')
  const marker = await server.send({ message: 'marker', level: 'info' })
  await eventually(() => assert.equal(subscriber.events.has(marker.id) && filtered.events.has(marker.id), true))
})

test('A subscriber that comes while PostgreSQL is away is refused or answered later, never wrongly', async (t) => {
  const { server, cut, mend, database } = await start(t, { databaseGrace: 300 })
  const client = await server.stream()
  const cursor = client.cursor()
  const lost = server.log.next('listener.lost')
  cut()
  await lost
  const subscriber = follow(t, server, { since: cursor })
  await database.sql(
    "insert into issues (project_id, short_id, title, level) values ($1, 'HAND-1', 'meanwhile', 'error')",
    [server.project_id],
  )
  mend()
  await subscriber.ready
  await holds(subscriber, await committed(database, server.project_id), 'since the cursor')
})

/** A PostgreSQL of its own, which may be killed. */
async function startWithCluster(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'mesher-away-'))
  const dataDir = join(folder, 'data')
  const log = createLog('error', () => {})
  const cluster = createCluster({ dataDir, log, settings: { fsync: 'off', max_connections: '40' } })
  t.after(async () => {
    const place = await realpath(join(dataDir, 'postgres')).catch(() => '')
    await cluster.stop()
    await rm(folder, { recursive: true, force: true })
    if (place) await rm(place, { recursive: true, force: true })
  })
  const { databaseUrl: url } = await cluster.start()
  await migrate(url, log)
  const pool = createPool(url, log)
  const first = (await bootstrap(createDb(pool)))!
  await pool.end()
  const database: TestDatabase = {
    url,
    sql: (text, values) => query(url, text, values),
    connect: () => Promise.reject(new Error('not here')),
  }
  const postmaster = async () =>
    Number((await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0])
  return { database, first, postmaster }
}

test('PostgreSQL that is killed under load comes back by itself: no acknowledged event is lost, no subscriber is silently short', async (t) => {
  const { database, first, postmaster } = await startWithCluster(t)
  const server = await startAppOn(t, database, first, { databaseGrace: 10_000 })
  const subscriber = follow(t, server)
  await subscriber.ready
  const random = createRandom()
  const senders = startSenders(server.url, first, random)
  for (const signal of ['SIGKILL', 'SIGQUIT'] as const) {
    const before = senders.acknowledged.size
    await eventually(() => assert.equal(senders.acknowledged.size > before + 100, true, 'events are stored'), 20_000)
    const away = server.log.next('write.database_away')
    const back = server.log.next('write.database_back')
    process.kill(await postmaster(), signal)
    await away
    await back
  }
  const before = senders.acknowledged.size
  await eventually(
    () => assert.equal(senders.acknowledged.size > before + 100, true, 'events are stored again'),
    20_000,
  )
  await senders.finish()
  assert.deepEqual(senders.wrong, [])
  const all = await committed(database, first.project_id)
  const stored = new Set(all.events)
  assert.deepEqual(
    [...senders.acknowledged].filter((id) => !stored.has(id)),
    [],
    `acknowledged and not stored, seed ${random.seed}`,
  )
  assert.equal(all.events.length, senders.sent.size, 'each is stored once')
  assert.deepEqual(await wrongCounts(database), [], `seed ${random.seed}`)
  await eventually(() => {
    const missed = all.events.filter((id) => !subscriber.events.has(id)).length
    assert.equal(
      missed === 0 || subscriber.resyncs.length > 0,
      true,
      `${missed} events are missing, seed ${random.seed}`,
    )
  }, 20_000)
  await eventually(async () => assert.equal(await readiness(server), 200))
})

test('Backends that are ended one after the other cost a retry, and no event its answer', async (t) => {
  const server = await startApp(t)
  const random = createRandom()
  const subscriber = follow(t, server)
  await subscriber.ready
  const senders = startSenders(server.url, server, random)
  for (let n = 0; n < 30; n++) {
    const before = senders.acknowledged.size
    await eventually(() => assert.equal(senders.acknowledged.size > before + 20, true, 'events are stored'))
    await server.database.sql(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name like 'mesher%' order by random() limit $1`,
      [1 + random.below(3)],
    )
  }
  await senders.finish()
  assert.deepEqual(senders.wrong, [])
  const all = await committed(server.database, server.project_id)
  assert.equal(all.events.length, senders.sent.size, `seed ${random.seed}`)
  assert.deepEqual(await wrongCounts(server.database), [], `seed ${random.seed}`)
  await eventually(() => {
    const missed = all.events.filter((id) => !subscriber.events.has(id)).length
    assert.equal(
      missed === 0 || subscriber.resyncs.length > 0,
      true,
      `${missed} events are missing, seed ${random.seed}`,
    )
  }, 20_000)
})

test('A pooled connection that dies while it is lent and nothing runs on it costs its borrower an error, and no process', async (t) => {
  const database = await createDatabase(t)
  const pool = createPool(database.url, createLog('error'))
  t.after(() => pool.end())
  const client = await pool.connect()
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  const ended = new Promise<void>((resolve) => client.on('end', () => resolve()))
  await database.sql('select pg_terminate_backend($1)', [rows[0]!.pid])
  await ended
  await assert.rejects(client.query('select 1'))
  client.release()
  assert.equal((await pool.query('select 1')).rowCount, 1, 'the pool makes a new one')
})

test('A start whose connection is ended while it waits for another server’s migration fails with the reason', async (t) => {
  const database = await createDatabase(t)
  const other = await database.connect()
  await other.query("begin; select pg_advisory_xact_lock(hashtext('mesher.migrate'))")
  const starting = assert.rejects(migrate(database.url, createLog('error')), /terminating connection/)
  await eventually(async () => {
    const ended = await database.sql(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'mesher migrate' and wait_event_type = 'Lock'`,
    )
    assert.equal(ended.length, 1)
  })
  await starting
  await other.query('rollback')
})
