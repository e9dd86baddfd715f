import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createArchiveTimer } from '../../server/db/archive-timer.ts'
import { createPool } from '../../server/db/pool.ts'
import { eventOf, openWriter, wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart } from '../support/database.ts'
import { listen } from '../support/listen.ts'
import { createTestLog } from '../support/log.ts'

async function open(t: TestContext) {
  const database = await createDatabase(t)
  const { project_id } = await firstStart(database)
  const ear = await listen(database)
  return {
    database,
    project_id,
    ear,
    writer: openWriter(t, database),
    status: async () => (await database.sql<{ status: string }>('select status from issues order by id'))[0]!.status,
    actions: async () => (await ear.hear()).issues.map((change) => change.action),
  }
}

const some = (count: number, fields = {}) => Array.from({ length: count }, () => eventOf('noise', fields))

test('An issue that is archived for n more events comes back with exactly the batch that brings the nth', async (t) => {
  const { database, project_id, writer, ear, status, actions } = await open(t)
  await writer.write(project_id, some(3))
  await database.sql(
    "update issues set status = 'archived', archived_until_event_count = 10 + (select event_count from issue_stats)",
  )
  await ear.hear()
  const twice = some(5)
  await writer.write(project_id, twice)
  await writer.write(project_id, twice)
  await writer.write(project_id, some(4))
  assert.deepEqual([await status(), await actions()], ['archived', []], 'repeats do not count, nine are not ten')
  await writer.write(project_id, some(1))
  const [change] = (await ear.hear()).issues
  assert.deepEqual([change?.action, change?.actor, change?.issue?.status], ['escalated', 'ingest', 'unresolved'])
  assert.equal(change?.issue?.archived_until_event_count, null)
  assert.deepEqual(await database.sql("select data from issue_activity where action = 'escalated'"), [
    { data: { from: 'archived', to: 'unresolved', archived_until_event_count: 13 } },
  ])
  await writer.write(project_id, some(20))
  assert.deepEqual(await actions(), [])
  assert.deepEqual(await wrongCounts(database), [])
})

test('Writers that reach the limit together bring the issue back once, and not before the nth event', async (t) => {
  const { database, project_id, ear } = await open(t)
  const writers = Array.from({ length: 6 }, () => openWriter(t, database))
  await writers[0]!.write(project_id, some(1))
  await database.sql("update issues set status = 'archived', archived_until_event_count = 150")
  await ear.hear()
  await Promise.all(
    writers.map(async ({ write }) => {
      for (let n = 0; n < 10; n++) await write(project_id, some(5))
    }),
  )
  const changes = (await ear.hear()).issues
  assert.deepEqual(
    changes.map((change) => [change.action, change.issue?.status]),
    [['escalated', 'unresolved']],
  )
  // Told as it was before the batch that crossed.
  const before = changes[0]!.issue!.event_count
  assert.ok(before >= 145 && before < 150, `it came back at ${before}`)
  assert.deepEqual(await wrongCounts(database), [])
})

test('An issue that is archived until it escalates comes back when an hour has more events than it is used to', async (t) => {
  const { database, project_id, writer, ear, status } = await open(t)
  const hour = 3_600_000
  // 20 events in each of the last four hours: the mean is below, so twice the busiest hour or ten times the mean counts.
  for (let n = 0; n < 4; n++) await writer.write(project_id, some(20, { received_at: Date.now() - n * hour }))
  await database.sql("update issues set first_seen = now() - interval '4 hours'")
  await database.sql("update issues set status = 'archived', archived_until_escalating = true")
  const ceiling = async () =>
    Number((await database.sql<{ n: string }>('select escalation_ceiling as n from issues'))[0]!.n)
  // 80 events in four hours (and the part of one since): ten times the mean of 20, or of 16.
  assert.ok([160, 200].includes(await ceiling()), String(await ceiling()))
  await database.sql('update issues set escalation_ceiling = 60')
  await ear.hear()
  const next = Date.now() + hour
  await writer.write(project_id, some(60, { received_at: next }))
  assert.equal(await status(), 'archived')
  await writer.write(project_id, some(1, { received_at: next }))
  const [change] = (await ear.hear()).issues
  assert.deepEqual([change?.action, change?.actor], ['escalated', 'ingest'])
  assert.equal(
    await database.sql('select from issues where escalation_ceiling is not null').then((rows) => rows.length),
    0,
  )
  assert.deepEqual(await wrongCounts(database), [])
})

test('What counts as a spike is ten times the mean, at least twice the busiest hour and the project’s floor, and is worked out anew each day', async (t) => {
  const { database, project_id, writer } = await open(t)
  await writer.write(project_id, some(1))
  const ceilingAt = async (hours: string, events: [number, number][]) => {
    await database.sql('delete from issue_hourly')
    for (const [ago, count] of events) {
      await database.sql(
        `insert into issue_hourly select project_id, id, date_trunc('hour', now(), 'UTC') - make_interval(hours => $1), $2 from issues`,
        [ago, count],
      )
    }
    const [row] = await database.sql<{ n: string }>(
      'select mesher_escalation_ceiling(project_id, id, now() - $1::interval) as n from issues',
      [hours],
    )
    return Number(row!.n)
  }
  assert.equal(await ceilingAt('30 days', []), 10, 'the floor')
  assert.equal(await ceilingAt('10 minutes', [[0, 100]]), 1000, 'a young issue has the mean of the time it was there')
  assert.equal(await ceilingAt('30 days', [[2, 168]]), 336, 'a nightly burst is no spike')
  assert.equal(
    await ceilingAt(
      '30 days',
      Array.from({ length: 160 }, (_, n): [number, number] => [n, 21]),
    ),
    200,
    'ten times the mean of seven days',
  )
  await database.sql('update projects set escalation_floor = 5000')
  assert.equal(await ceilingAt('30 days', [[2, 168]]), 5000)

  await database.sql("update issues set status = 'archived', archived_until_escalating = true")
  await database.sql('update projects set escalation_floor = 77; delete from issue_hourly')
  const refresh = () => database.sql('select mesher_refresh_ceilings(id) as n from projects')
  assert.deepEqual(await refresh(), [{ n: 0 }], 'not twice a day')
  await database.sql("update issues set escalation_ceiling_at = now() - interval '25 hours'")
  assert.deepEqual(await refresh(), [{ n: 1 }])
  assert.deepEqual(await database.sql('select escalation_ceiling from issues'), [{ escalation_ceiling: '77' }])
})

test('An issue that is archived until a time is unresolved when it has come, once, whoever looks', async (t) => {
  const { database, project_id, writer, ear, status } = await open(t)
  await writer.write(project_id, some(1))
  await database.sql("update issues set status = 'archived', archived_until = now() + interval '1 hour'")
  await ear.hear()
  const log = createTestLog()
  const pools = [1, 2, 3].map(() => createPool(database.url, log))
  t.after(() => Promise.all(pools.map((pool) => pool.end())))
  const timers = pools.map((pool) => createArchiveTimer(pool, log))
  await Promise.all(timers.map((timer) => timer.run()))
  assert.equal(await status(), 'archived')
  await database.sql("update issues set archived_until = now() - interval '1 second'")
  await Promise.all(timers.map((timer) => timer.run()))
  const changes = (await ear.hear()).issues
  assert.deepEqual(
    changes.map((change) => [change.action, change.actor]),
    [
      ['archived', changes[0]!.actor],
      ['unresolved', 'timer'],
    ],
  )
  assert.deepEqual(await database.sql('select status, archived_until from issues'), [
    { status: 'unresolved', archived_until: null },
  ])
  assert.deepEqual(await database.sql('select unresolved from project_counters'), [{ unresolved: '1' }])
})

test('What an archived issue waits for is forgotten when somebody decides otherwise', async (t) => {
  const { database, project_id, writer, actions } = await open(t)
  await writer.write(project_id, some(1))
  await database.sql(`update issues set status = 'archived', archived_until = now() + interval '1 day',
    archived_until_event_count = 2, archived_until_escalating = true`)
  await database.sql("update issues set status = 'resolved'")
  assert.deepEqual(
    await database.sql(
      'select archived_until, archived_until_event_count, archived_until_escalating, escalation_ceiling from issues',
    ),
    [
      {
        archived_until: null,
        archived_until_event_count: null,
        archived_until_escalating: false,
        escalation_ceiling: null,
      },
    ],
  )
  await database.sql("update issues set archived_until_event_count = 5 where status = 'resolved'")
  assert.deepEqual(await database.sql('select archived_until_event_count as n from issues'), [{ n: null }])
  assert.deepEqual(await actions(), ['created', 'archived', 'resolved'])
})

test('A discarded issue keeps its hashes, counts what it drops, and takes events again when it is not discarded any more', async (t) => {
  const { database, project_id, writer } = await open(t)
  const [first] = await writer.write(project_id, some(1))
  await database.sql("update issues set status = 'discarded'")
  const writers = Array.from({ length: 4 }, () => openWriter(t, database))
  await Promise.all(writers.map(({ write }) => write(project_id, [...some(10), ...some(3)])))
  const counts = () => database.sql('select event_count, dropped_count from issues_overview')
  assert.deepEqual(await counts(), [{ event_count: '1', dropped_count: '52' }])
  await database.sql("update issues set status = 'unresolved'")
  const [again] = await writer.write(project_id, some(1))
  assert.deepEqual([again!.status, again!.issue_id], ['accepted', first!.issue_id])
  assert.deepEqual(await counts(), [{ event_count: '2', dropped_count: '52' }])
})
