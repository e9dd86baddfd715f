import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type pg from 'pg'
import { createPool } from '../../server/db/pool.ts'
import { AppError } from '../../server/errors.ts'
import { createLog } from '../../server/log.ts'
import { createReportWriter } from '../../server/write/reports.ts'
import { createDatabase, firstStart } from '../support/database.ts'

const quiet = createLog('error')
const reset = () => Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })

/** A writer whose connections fail as `fault` says, at the statement that it is asked about. */
async function open(
  t: TestContext,
  fault: (text: string, run: () => Promise<unknown>) => Promise<unknown>,
  grace = 5_000,
) {
  const database = await createDatabase(t)
  const { project_id } = await firstStart(database)
  const pool = createPool(database.url, quiet)
  const flaky = {
    query: (text: string, values?: unknown[]) => pool.query(text, values),
    async connect() {
      const client = await pool.connect()
      return {
        query: (text: string, values?: unknown[]) => fault(text, () => client.query(text, values)),
        release: (broken: boolean) => client.release(broken),
      }
    },
  } as unknown as pg.Pool
  const writer = createReportWriter({ pool: flaky, grace, log: quiet })
  await writer.start()
  t.after(async () => {
    await writer.stop()
    await pool.end()
  })
  const add = (quantity: number) => {
    const discarded = [{ reason: 'sample_rate', category: 'error', quantity }]
    return writer.add(project_id, { received_at: Date.now(), discarded, feedback: [] })
  }
  const total = async () => {
    const sum = 'select coalesce(sum(quantity), 0)::int as n from client_reports'
    return (await database.sql<{ n: number }>(sum))[0]!.n
  }
  return { database, project_id, writer, add, total }
}

test('A count whose commit was not answered is not added twice', async (t) => {
  let lost = 0
  const { add, total } = await open(t, async (text, run) => {
    const result = await run()
    if (text !== 'commit' || lost === 2) return result
    lost += 1
    throw reset()
  })
  await Promise.all([add(3), add(4)])
  await add(5)
  assert.equal(lost, 2)
  assert.equal(await total(), 12)
})

test('A count whose transaction was cut off before its commit is written again', async (t) => {
  const cut = new Set(['commit', 'select pg_current_xact_id()::text as xid'])
  const { add, total } = await open(t, async (text, run) => {
    if (!cut.delete(text)) return run()
    throw reset()
  })
  await add(7)
  assert.equal(cut.size, 0)
  assert.equal(await total(), 7)
})

test('Reports are refused as unavailable when the grace is over, and nothing is half written', async (t) => {
  const { add, total } = await open(t, async () => Promise.reject(reset()), 300)
  await assert.rejects(add(1), (error) => error instanceof AppError && error.code === 'unavailable')
  assert.equal(await total(), 0)
})

test('Reports of a deleted project vanish, and cost those of others nothing', async (t) => {
  const { database, add, total, writer } = await open(t, (_text, run) => run())
  const discarded = [{ reason: 'sample_rate', category: 'error', quantity: 1 }]
  await Promise.all([add(2), writer.add('999999', { received_at: Date.now(), discarded, feedback: [] })])
  assert.equal(await total(), 2)
  const rows = await database.sql<{ project_id: string }>('select distinct project_id from client_reports')
  assert.equal(rows.length, 1)
})

test('A report that PostgreSQL cannot hold costs its neighbours nothing', async (t) => {
  const { add, total, writer, project_id } = await open(t, (_text, run) => run())
  const feedback = [
    { id: 'not an id', event_id: null, name: null, email: null, message: 'a', url: null, received_at: Date.now() },
  ]
  const bad = writer.add(project_id, { received_at: Date.now(), discarded: [], feedback })
  const settled = await Promise.allSettled([add(1), bad, add(2)])
  assert.deepEqual(
    settled.map((one) => one.status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  assert.equal(await total(), 3)
})
