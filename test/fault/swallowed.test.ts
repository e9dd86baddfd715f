// The network swallows a connection: both ends stay open, and nothing passes any more, not even their end. Who waits for an
// answer gets one in seconds, not in the quarter of an hour after which the system notices, and no lock is left behind.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createDb, createPool } from '../../server/db/pool.ts'
import { createConnectionWatch } from '../../server/db/watch.ts'
import { newId, wrongCounts } from '../support/batch.ts'
import { createDatabase } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { createTestLog } from '../support/log.ts'
import { createProxy, startBehindProxy } from '../support/proxy.ts'
import { within } from '../support/within.ts'

const often = { after: 50, every: 20 }

/** A pool behind a proxy, with a watch over it. */
async function start(t: TestContext) {
  const database = await createDatabase(t)
  const log = createTestLog()
  const proxy = await createProxy(t, database.url)
  const watch = createConnectionWatch({ databaseUrl: proxy.url, log, ...often })
  const pool = createPool(proxy.url, log, { watch })
  await watch.start()
  t.after(async () => {
    await pool.end()
    await watch.stop()
  })
  return { database, log, proxy, pool }
}

test('An event whose batch is swallowed is written over a new connection, and answered once', async (t) => {
  const { server, database, proxy } = await startBehindProxy(t, { writers: 1, watch: often })
  await server.send({ message: 'before' })
  const lost = server.log.next('database.connection_lost')
  proxy.swallow('mesher writer 1')
  const event_id = newId()
  const { id } = await within('an answer', server.send({ message: 'swallowed', event_id }))
  assert.equal(id, event_id)
  const { pid } = await within('database.connection_lost', lost)
  await eventually(async () =>
    assert.deepEqual(await database.sql('select from pg_stat_activity where pid = $1', [pid]), []),
  )
  assert.deepEqual(await database.sql('select count(*)::int as events from events'), [{ events: 2 }])
  assert.deepEqual(await wrongCounts(database), [])
})

test('A commit whose answer is swallowed is found to be there, and counted once', async (t) => {
  const { server, database, proxy } = await startBehindProxy(t, { writers: 1, watch: often })
  await server.send({ message: 'known' })
  proxy.hold('mesher writer 1')
  const answered = server.send({ message: 'known' })
  await eventually(async () =>
    assert.deepEqual(await database.sql('select count(*)::int as events from events'), [{ events: 2 }]),
  )
  proxy.swallow('mesher writer 1')
  proxy.release('mesher writer 1')
  await within('an answer', answered)
  assert.deepEqual(await database.sql('select count(*)::int as events from events'), [{ events: 2 }])
  assert.deepEqual(await wrongCounts(database), [])
})

test('What a swallowed transaction has locked is free as soon as its owner hears of it', async (t) => {
  const { database, proxy, pool } = await start(t)
  const client = await pool.connect()
  await client.query('begin')
  await client.query('lock table issues')
  proxy.swallow('mesher')
  await within('an error', assert.rejects(client.query('select 1')))
  client.release(true)
  await database.sql('begin; lock table issues nowait; rollback')
  assert.equal((await pool.query('select 1')).rowCount, 1)
})

test('Requests that were under way on swallowed connections are told to come back, and the next are served', async (t) => {
  const { server, proxy } = await startBehindProxy(t, { watch: often })
  // Each a question of its own, so that each takes a connection: the same one is asked once for all who wait.
  const ask = (n: number) => server.api('GET', `/api/v1/projects/nowhere-${n}`)
  await Promise.all(Array.from({ length: 3 }, (_, n) => ask(n)))
  proxy.swallow('mesher')
  const answers = await within('answers', Promise.all(Array.from({ length: 12 }, (_, n) => ask(n))))
  for (const { status } of answers) assert.ok([404, 503].includes(status), String(status))
  assert.equal((await server.api('GET', '/api/v1/projects/app/issues')).status, 200)
})

test('A statement that waits for a lock is left alone, however often it is looked at', async (t) => {
  const { database, log, pool } = await start(t)
  const person = await database.connect()
  await person.query('begin; lock table issues')
  const waiting = pool.query('select count(*) from issues')
  for (let look = 0; look < 10; look++) await within('database.looked', log.next('database.looked'))
  await person.query('rollback')
  assert.equal((await waiting).rowCount, 1)
  assert.deepEqual(
    log.lines.filter(({ name }) => name === 'database.connection_lost'),
    [],
  )
})

test('A connection with a question that was never answered is not lent again', async (t) => {
  const database = await createDatabase(t)
  const proxy = await createProxy(t, database.url)
  const pool = createPool(proxy.url, createTestLog(), { max: 1, timeout: 500 })
  t.after(() => pool.end())
  const db = createDb(pool)
  const ask = () => db.selectFrom('projects').select('id').execute()
  await ask()
  proxy.swallow('mesher')
  await assert.rejects(ask(), { code: 'unavailable' })
  await ask()
})

test('A subscription that the database does not answer ends with a code to come back with, and works when it does', async (t) => {
  const { server, proxy } = await startBehindProxy(t, { databaseLimit: 300 })
  const client = await server.stream()
  const before = client.cursor()
  const lost = server.log.next('listener.lost')
  for (const name of ['mesher', 'mesher listener']) proxy.refuse(name)
  await lost
  client.send({ type: 'subscribe', sample: false, filters: {}, since: before, ref: 1 })
  const { code, reason } = await within('the close', client.closed)
  assert.equal(code, 4503)
  assert.match(reason, /come back/)
  for (const name of ['mesher', 'mesher listener']) proxy.allow(name)
  await server.send({ message: 'meanwhile' })
  await eventually(async () => {
    const again = await server.stream({ since: before })
    await again.next('event', (event) => event.data.title === 'meanwhile')
  })
})

test('A subscription that waits for a locked table ends, too', async (t) => {
  const { server, database } = await startBehindProxy(t, { databaseLimit: 300 })
  const client = await server.stream()
  const person = await database.connect()
  await person.query('begin; lock table issue_activity')
  client.send({ type: 'subscribe', sample: false, filters: {}, since: client.cursor() })
  assert.equal((await within('the close', client.closed)).code, 4503)
  await person.query('rollback')
  await server.stream({ since: client.cursor() })
})
