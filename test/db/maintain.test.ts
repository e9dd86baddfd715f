import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMaintenance } from '../../server/db/maintain.ts'
import { refuseOldVersion } from '../../server/db/migrate.ts'
import { createDatabase, firstStart, type TestDatabase } from '../support/database.ts'
import { createTestLog } from '../support/log.ts'

async function partitions(database: TestDatabase): Promise<string[]> {
  const rows = await database.sql<{ name: string }>(
    "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'events'::regclass order by 1",
  )
  return rows.map((row) => row.name)
}

const dayName = (daysFromNow: number) =>
  `events_${new Date(Date.now() + daysFromNow * 86_400_000).toISOString().slice(0, 10).replaceAll('-', '')}`

test('Days are made ahead, and dropped when no project keeps events that long', async (t) => {
  const database = await createDatabase(t)
  await firstStart(database)
  await database.sql('update projects set retention_days = 30')
  await database.sql(
    "select ensure_event_partitions((now() at time zone 'UTC')::date - 40, (now() at time zone 'UTC')::date - 20)",
  )
  for (const days of [40, 25]) {
    await database.sql(
      `insert into events (project_id, issue_id, title, received_at) values (1, 1, 'old', now() - interval '${days} days')`,
    )
  }
  await createMaintenance(database.url, createTestLog()).run()

  const left = await partitions(database)
  assert.ok(left.includes(dayName(7)), 'a week ahead is there')
  assert.ok(left.includes(dayName(-30)) && !left.includes(dayName(-31)), 'days beyond retention are gone')
  const [{ count } = { count: '' }] = await database.sql<{ count: string }>('select count(*) from events')
  assert.equal(count, '1')
})

test('A project that keeps events for less than others loses its old ones, and no one else does', async (t) => {
  const database = await createDatabase(t)
  await firstStart(database)
  await database.sql(
    "insert into projects (organization_id, slug, name, retention_days) values (1, 'brief', 'Brief', 7)",
  )
  await database.sql(
    "select ensure_event_partitions((now() at time zone 'UTC')::date - 12, (now() at time zone 'UTC')::date)",
  )
  for (const [project, days] of [
    [1, 10],
    [2, 10],
    [2, 5],
  ] as const) {
    await database.sql(
      `insert into events (project_id, issue_id, title, received_at) values (${project}, 1, 'x', now() - interval '${days} days')`,
    )
  }
  await createMaintenance(database.url, createTestLog()).run()
  const rows = await database.sql<{ project_id: string; days: number }>(
    'select project_id, round(extract(epoch from now() - received_at) / 86400)::int as days from events order by 1, 2',
  )
  assert.deepEqual(
    rows.map((row) => [row.project_id, row.days]),
    [
      ['1', 10],
      ['2', 5],
    ],
  )
})

test('Event ids are forgotten after three days, and not before', async (t) => {
  const database = await createDatabase(t)
  await database.sql(`insert into event_ids (project_id, event_id, received_at) values
    (1, gen_random_uuid(), now() - interval '73 hours'), (1, gen_random_uuid(), now() - interval '71 hours')`)
  await createMaintenance(database.url, createTestLog()).run()
  const rows = await database.sql('select from event_ids')
  assert.equal(rows.length, 1)
})

test('A day whose removal was interrupted is removed by the next run', async (t) => {
  const database = await createDatabase(t)
  await firstStart(database)
  await database.sql('update projects set retention_days = 1')
  await database.sql(
    "select ensure_event_partitions((now() at time zone 'UTC')::date - 5, (now() at time zone 'UTC')::date - 5)",
  )
  // A reader holds the partition, so that the concurrent detach is left half done when its lock time-out ends.
  const reader = await database.connect()
  await reader.query(`begin; select from ${dayName(-5)}`)
  const maintenance = createMaintenance(database.url, createTestLog())
  await assert.rejects(maintenance.run())
  await reader.query('commit')
  await maintenance.run()
  assert.ok(!(await partitions(database)).includes(dayName(-5)))
})

test('A PostgreSQL older than 15 is refused in one line that names its version', () => {
  assert.throws(() => refuseOldVersion(140_012, '14.12'), /^Error: Mesher needs PostgreSQL 15 or newer; .* 14\.12$/)
  refuseOldVersion(150_000, '15.0')
})
