import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { eventOf, openWriter, wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart, type TestDatabase } from '../support/database.ts'
import { listen } from '../support/listen.ts'
import { createRandom } from '../support/random.ts'

async function open(t: TestContext) {
  const database = await createDatabase(t)
  const { project_id } = await firstStart(database)
  return {
    database,
    project_id,
    writer: openWriter(t, database),
    merge: (into: string, ...ids: string[]) =>
      database.sql('select mesher_merge_issues($1, $2, $3) as n', [project_id, into, ids]),
    async unmerge(from: string, hashes: string[]) {
      const rows = await database.sql<{ id: string }>('select mesher_unmerge($1, $2, $3) as id', [
        project_id,
        from,
        hashes,
      ])
      return rows[0]!.id
    },
  }
}

const hashOf = (title: string) => eventOf(title).hashes[0]!

const eventsOf = (title: string, count: number) =>
  Array.from({ length: count }, (_, n) =>
    eventOf(title, {
      user: `id:${n % 4}`,
      received_at: Date.now() - (n % 3) * 3_600_000,
      tags: [
        ['issue', title],
        ['n', String(n % 2)],
      ],
    }),
  )

/** Everything that is counted or stored by issue, but for what a merge is to change. */
async function picture(database: TestDatabase) {
  await database.sql('select fold_issue_tags(id, 100000) from projects')
  const read = (text: string) => database.sql(text)
  return {
    issues:
      await read(`select id, short_id, title, status, assigned_to, first_seen, last_seen, event_count, user_count, dropped_count
                          from issues_overview order by id`),
    events: await read('select issue_id, count(*), sum(hashtext(id::text)) from events group by 1 order by 1'),
    hashes: await read('select issue_id, hash, merged_from from issue_hashes order by 1, 2'),
    hourly: await read('select issue_id, hour, event_count from issue_hourly order by 1, 2'),
    users: await read('select issue_id, user_key from issue_users order by 1, 2'),
    tags: await read('select issue_id, key, value, event_count from issue_tags order by 1, 2, 3'),
    unresolved: await read('select unresolved from project_counters'),
  }
}

test('A merged issue is gone with all that belonged to it in the other one, and both are told', async (t) => {
  const { database, project_id, writer, merge } = await open(t)
  const [a, b, c] = (
    await writer.write(project_id, [...eventsOf('a', 1), ...eventsOf('b', 1), ...eventsOf('c', 1)])
  ).map(({ issue_id }) => issue_id!) as [string, string, string]
  await writer.write(project_id, [...eventsOf('a', 5), ...eventsOf('b', 7), ...eventsOf('c', 2)])
  const ear = await listen(database)
  assert.deepEqual(await merge(a, b, c), [{ n: 2 }])
  const heard = (await ear.hear()).issues
  assert.deepEqual(
    heard.map((change) => [change.action, change.issue_id, change.issue?.event_count ?? null]),
    [
      ['merged', b, null],
      ['merged', c, null],
      ['updated', a, 17],
    ],
  )
  assert.deepEqual(
    await database.sql("select issue_id, data ->> 'merged_into' as into from issue_activity where action = 'merged'"),
    [
      { issue_id: b, into: a },
      { issue_id: c, into: a },
    ],
  )
  assert.deepEqual(await database.sql('select event_count, user_count from issues_overview'), [
    { event_count: '17', user_count: '4' },
  ])
  const { tags, unresolved } = await picture(database)
  assert.deepEqual(unresolved, [{ unresolved: '1' }])
  assert.deepEqual(
    tags.filter((tag) => tag.key === 'issue').map((tag) => [tag.issue_id, tag.value, tag.event_count]),
    [
      [a, 'a', '6'],
      [a, 'b', '8'],
      [a, 'c', '3'],
    ],
  )
  const [later] = await writer.write(project_id, eventsOf('b', 1))
  assert.equal(later!.issue_id, a)
  assert.deepEqual(await wrongCounts(database), [])
})

test('Taking out what was merged gives everything back as it was', async (t) => {
  const { database, project_id, writer, merge, unmerge } = await open(t)
  const [a, b] = (await writer.write(project_id, [...eventsOf('a', 1), ...eventsOf('b', 1)])).map(
    (one) => one.issue_id!,
  )
  await writer.write(project_id, [...eventsOf('a', 9), ...eventsOf('b', 14)])
  await database.sql("update issues set status = 'resolved', assigned_to = 'ada' where id = $1", [b])
  const before = await picture(database)
  await merge(a!, b!)
  const ear = await listen(database)
  assert.equal(await unmerge(a!, [hashOf('b')]), b)
  assert.deepEqual(await picture(database), before)
  assert.deepEqual(
    (await ear.hear()).issues.map((change) => [change.action, change.issue_id]),
    [
      ['created', b],
      ['updated', a],
    ],
  )
  assert.deepEqual(await database.sql('select from merged_issues'), [])
})

test('Events that came after a merge go with their hash, and a hash that was never merged gets a new issue', async (t) => {
  const { database, project_id, writer, merge, unmerge } = await open(t)
  const [a, b, c] = (
    await writer.write(project_id, [...eventsOf('a', 1), ...eventsOf('b', 1), ...eventsOf('c', 1)])
  ).map((one) => one.issue_id!)
  await merge(b!, c!)
  await merge(a!, b!)
  await writer.write(project_id, [...eventsOf('a', 2), ...eventsOf('b', 3), ...eventsOf('c', 4)])
  assert.equal(await unmerge(a!, [hashOf('c')]), c, 'through two merges')
  const made = await unmerge(a!, [hashOf('a')])
  const rows = await database.sql('select id, title, event_count, short_id from issues_overview order by id')
  assert.deepEqual(rows, [
    { id: a, title: 'a', event_count: '4', short_id: 'APP-1' },
    { id: c, title: 'c', event_count: '5', short_id: 'APP-3' },
    { id: made, title: 'a', event_count: '3', short_id: 'APP-4' },
  ])
  assert.deepEqual(await wrongCounts(database), [])
  const outcomes = await writer.write(
    project_id,
    ['a', 'b', 'c'].map((title) => eventOf(title)),
  )
  assert.deepEqual(
    outcomes.map((one) => one.issue_id),
    [made, a, c],
  )
})

test('What retention has removed before a merge is given back as a number', async (t) => {
  const { database, project_id, writer, merge, unmerge } = await open(t)
  const [a, b] = (await writer.write(project_id, [...eventsOf('a', 1), ...eventsOf('b', 1)])).map(
    (one) => one.issue_id!,
  )
  await writer.write(project_id, eventsOf('b', 9))
  await database.sql(
    'delete from events where issue_id = $1 and id in (select id from events where issue_id = $1 limit 6)',
    [b],
  )
  await merge(a!, b!)
  assert.deepEqual(await database.sql('select event_count from issue_stats'), [{ event_count: '11' }])
  await unmerge(a!, [hashOf('b')])
  assert.deepEqual(await database.sql('select event_count from issue_stats order by issue_id'), [
    { event_count: '1' },
    { event_count: '10' },
  ])
})

test('What cannot be merged or taken apart is refused, and nothing has changed', async (t) => {
  const { database, project_id, writer, merge, unmerge } = await open(t)
  const [a, , b] = (await writer.write(project_id, [...eventsOf('a', 2), ...eventsOf('b', 2)])).map(
    (one) => one.issue_id!,
  )
  await database.sql('update projects set new_issues_per_minute = 1')
  const [overflow] = (await writer.write(project_id, eventsOf('c', 1))).map((one) => one.issue_id!)
  const before = await picture(database)
  await assert.rejects(merge(a!, a!), { code: 'MS006' })
  await assert.rejects(merge(a!, overflow!), { code: 'MS006' })
  await assert.rejects(merge(a!, b!, '999'), { code: 'MS005' })
  await assert.rejects(merge('999', b!), { code: 'MS005' })
  await assert.rejects(unmerge(a!, [hashOf('a')]), { code: 'MS006' })
  await assert.rejects(unmerge(a!, [hashOf('b')]), { code: 'MS005' })
  await assert.rejects(unmerge(a!, []), { code: 'MS005' })
  assert.deepEqual(await picture(database), before)
})

test('Events that come while issues are merged and taken apart go to the right place, and nobody waits for ever', async (t) => {
  const { database, project_id, writer } = await open(t)
  const random = createRandom()
  const titles = Array.from({ length: 6 }, (_, n) => `issue ${n}`)
  await writer.write(
    project_id,
    titles.flatMap((title) => eventsOf(title, 2)),
  )
  let writing = true
  const failures: unknown[] = []
  let done = 0
  const person = async () => {
    const client = await database.connect('test person')
    while (writing) {
      const issues = (await client.query<{ id: string }>('select id from issues order by random() limit 2')).rows
      const hashes = (
        await client.query<{ hash: string; issue_id: string }>(
          'select hash, issue_id from issue_hashes order by random() limit 1',
        )
      ).rows
      try {
        if (random.below(2) === 0 && issues.length === 2)
          await client.query('select mesher_merge_issues($1, $2, $3)', [project_id, issues[0]!.id, [issues[1]!.id]])
        else
          await client.query('select mesher_unmerge($1, $2, $3)', [project_id, hashes[0]!.issue_id, [hashes[0]!.hash]])
        done += 1
      } catch (error) {
        if (!['MS005', 'MS006'].includes((error as { code: string }).code)) failures.push(error)
      }
    }
  }
  const folding = (async () => {
    const client = await database.connect('test fold')
    while (writing) await client.query('select fold_issue_tags(id, 3) from projects')
  })()
  const people = [person(), person()]
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      const { write } = openWriter(t, database)
      for (let n = 0; n < 25; n++) {
        const events = Array.from({ length: 20 }, () => eventsOf(random.pick(titles), 1 + random.below(3)).at(-1)!)
        for (;;) {
          try {
            await write(project_id, events)
            break
          } catch (error) {
            // As the writer does.
            if (!['MS001', 'MS004'].includes((error as { code: string }).code)) throw error
          }
        }
      }
    }),
  ).finally(() => {
    writing = false
  })
  await Promise.all([...people, folding])
  assert.deepEqual(failures, [], `seed ${random.seed}`)
  assert.ok(done > 5, `only ${done} were merged or taken apart, seed ${random.seed}`)
  const strays = await database.sql(
    `select e.issue_id, h.issue_id as belongs, count(*) from events e join issue_hashes h using (project_id, hash)
      where h.issue_id <> e.issue_id group by 1, 2`,
  )
  assert.deepEqual(strays, [], `seed ${random.seed}`)
  assert.deepEqual(await database.sql('select count(*)::int as n from events'), [{ n: 12 + 4 * 25 * 20 }])
  assert.deepEqual(await wrongCounts(database), [], `seed ${random.seed}`)
  const { tags } = await picture(database)
  const counted = tags.filter((tag) => tag.key === 'issue').reduce((sum, tag) => sum + Number(tag.event_count), 0)
  assert.equal(counted, 12 + 4 * 25 * 20)
})
