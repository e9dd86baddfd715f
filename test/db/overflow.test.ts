import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { eventOf, openWriter, tagCounts, wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart } from '../support/database.ts'
import { listen } from '../support/listen.ts'

async function open(t: TestContext, newIssuesPerMinute: number) {
  const database = await createDatabase(t)
  const { project_id } = await firstStart(database)
  await database.sql('update projects set new_issues_per_minute = $1', [newIssuesPerMinute])
  return {
    database,
    project_id,
    writer: openWriter(t, database),
    /** Far ahead, so that no real minute ends in a test. */
    startMinute: () =>
      database.sql(
        "update project_new_issues set minute = date_trunc('minute', now(), 'UTC') + interval '1 hour', issues = 0",
      ),
    async issues() {
      return database.sql<{ id: string; title: string; event_count: string; user_count: string; status: string }>(
        'select id, title, event_count, user_count, status from issues_overview order by id',
      )
    },
  }
}

const numbered = (from: number, count: number) =>
  Array.from({ length: count }, (_, n) =>
    eventOf(`unique ${from + n}`, { user: `id:${n % 3}`, tags: [['browser', 'Firefox']] }),
  )

test('Beyond the bound new errors of a minute are kept in one issue, whole and counted, and get their own the next minute', async (t) => {
  const { database, project_id, writer, issues, startMinute } = await open(t, 5)
  const ear = await listen(database)
  await startMinute()
  const outcomes = [
    ...(await writer.write(project_id, numbered(0, 8))),
    ...(await writer.write(project_id, [...numbered(0, 2), ...numbered(7, 4)])),
  ]
  const overflow = (await issues()).find((issue) => issue.title.startsWith('Too many new issues'))!
  assert.equal((await issues()).length, 6)
  assert.equal(overflow.event_count, '7')
  assert.equal(overflow.user_count, '3')
  assert.deepEqual(
    outcomes.filter(({ issue_id }) => issue_id === overflow.id).length,
    7,
    'the answer says where an event is',
  )
  assert.equal(outcomes[8]!.issue_id, outcomes[0]!.issue_id, 'known errors go where they belong')
  const told = (await ear.hear()).issues
  assert.deepEqual(
    told.map((change) => change.action),
    Array(6).fill('created'),
  )
  assert.deepEqual(await database.sql('select data from issue_activity where issue_id = $1', [overflow.id]), [
    { data: { new_issues_per_minute: 5 } },
  ])
  assert.deepEqual(await tagCounts(database), [{ key: 'browser', value: 'Firefox', events: 14 }])
  assert.deepEqual(await wrongCounts(database), [])

  await startMinute()
  const [own] = await writer.write(project_id, numbered(7, 1))
  assert.notEqual(own!.issue_id, overflow.id)
  assert.equal((await issues()).length, 7)
  assert.deepEqual(await wrongCounts(database), [])
})

test('Writers that storm at the same time make exactly as many new issues as the bound says, and one for the rest', async (t) => {
  const { database, project_id, issues, startMinute } = await open(t, 30)
  await startMinute()
  const writers = Array.from({ length: 6 }, () => openWriter(t, database))
  await Promise.all(
    writers.map(async ({ write }, n) => {
      for (let batch = 0; batch < 6; batch++) await write(project_id, numbered(1000 * n + 10 * batch, 10))
    }),
  )
  const made = await issues()
  assert.equal(made.length, 31)
  const overflow = made.filter((issue) => issue.title.startsWith('Too many new issues'))
  assert.deepEqual(
    overflow.map((issue) => issue.event_count),
    [String(6 * 6 * 10 - 30)],
  )
  assert.deepEqual(await database.sql('select issues from project_new_issues'), [{ issues: 30 }])
  assert.deepEqual(await database.sql('select count(*)::int as hashes from issue_hashes'), [{ hashes: 31 }])
  assert.deepEqual(await wrongCounts(database), [])
})

test('The issue of the rest is one for ever: it regresses, it can be discarded, and when it is deleted the next storm makes another', async (t) => {
  const { database, project_id, writer, issues, startMinute } = await open(t, 1)
  await startMinute()
  await writer.write(project_id, numbered(0, 3))
  const ear = await listen(database)
  await database.sql("update issues set status = 'resolved' where title like 'Too many%'")
  await writer.write(project_id, numbered(10, 3))
  assert.deepEqual(
    (await ear.hear()).issues.map((change) => change.action),
    ['resolved', 'regressed'],
  )
  await database.sql("update issues set status = 'discarded' where title like 'Too many%'")
  const dropped = await writer.write(project_id, numbered(20, 3))
  assert.deepEqual(
    dropped.map((outcome) => outcome.status),
    ['dropped', 'dropped', 'dropped'],
  )
  await database.sql("delete from issues where title like 'Too many%'")
  await writer.write(project_id, numbered(30, 3))
  const made = await issues()
  assert.deepEqual(
    made.map((issue) => [issue.title.slice(0, 8), issue.event_count]),
    [
      ['unique 0', '1'],
      ['Too many', '3'],
    ],
  )
  assert.deepEqual(await wrongCounts(database, { deleted: true }), [])
})

test('A second hash that is known needs no new issue, so the bound does not hold it back', async (t) => {
  const { project_id, writer, issues, startMinute } = await open(t, 1)
  await startMinute()
  const listed = (first: string, second: string) =>
    eventOf(first, { hashes: [first.repeat(32), second.repeat(32)], components: ['["1"]', '["2"]'] })
  const [known] = await writer.write(project_id, [listed('a', 'f')])
  const [bound, overflow] = await writer.write(project_id, [listed('b', 'f'), listed('c', 'e')])
  assert.equal(bound!.issue_id, known!.issue_id)
  assert.notEqual(overflow!.issue_id, known!.issue_id)
  assert.equal((await issues()).length, 2)
})
