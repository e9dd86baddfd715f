// A replay is read in pages, each by a statement of its own, and must be what one statement would have read.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createPool } from '../../server/db/pool.ts'
import type { Change } from '../../server/relay/messages.ts'
import { createReplay, pageSize, type Snapshot } from '../../server/relay/replay.ts'
import { createDatabase, firstStart } from '../support/database.ts'
import { createTestLog } from '../support/log.ts'

async function start(t: TestContext) {
  const database = await createDatabase(t)
  const { project_id } = await firstStart(database)
  const pool = createPool(database.url, createTestLog())
  t.after(() => pool.end())
  const replay = createReplay(pool)
  await replay.epoch()
  const [issue] = await database.sql<{ id: string }>(
    `insert into issues (project_id, short_id, title, level) values ($1, 'APP-1', 'an issue', 'error') returning id`,
    [project_id],
  )
  const { position } = await replay.read(project_id, null)
  return { database, replay, project_id, issue_id: issue!.id, since: position }
}

const insert = `insert into events (project_id, issue_id, title) select $1, $2, $3 from generate_series(1, $4::int)`

async function pagesOf(snapshot: Snapshot, between: (number: number) => Promise<unknown> = async () => {}) {
  const pages: Change[][] = []
  for (let number = 0; ; number++) {
    const page = await snapshot.page(number)
    if (!page) return pages
    pages.push(page)
    await between(number)
  }
}

const cursorsOf = (changes: Change[]) => changes.map(({ text }) => BigInt(JSON.parse(text).cursor.split('-')[1]))

test('Every change stands once in the pages, in the order of transactions, also where one fills several', async (t) => {
  const { database, replay, project_id, issue_id, since } = await start(t)
  const person = await database.connect()
  for (const count of [3, 2 * pageSize + 7, 5]) {
    await person.query('begin')
    await person.query("update issues set status = case status when 'resolved' then 'unresolved' else 'resolved' end")
    await person.query(insert, [project_id, issue_id, 'many', count])
    await person.query('update issues set assigned_to = $1', [`number ${count}`])
    await person.query('commit')
  }
  const snapshot = await replay.read(project_id, since)
  const pages = await pagesOf(snapshot)
  assert.deepEqual(
    pages.map((page) => page.length === pageSize),
    [true, true, false],
  )
  // An open transaction anywhere in the cluster lets a replay begin earlier: with the issue itself.
  const changes = pages.flat().filter(({ text }) => JSON.parse(text).action !== 'created')
  assert.equal(new Set(changes.map(({ key }) => key)).size, changes.length)
  const rows = await database.sql<{ key: string }>(`
    select 'e' || replace(id::text, '-', '') as key from events union all
    select 'a' || id from issue_activity where action <> 'created'`)
  assert.deepEqual(changes.map(({ key }) => key).sort(), rows.map(({ key }) => key).sort())
  const cursors = cursorsOf(changes)
  assert.deepEqual(
    cursors,
    cursors.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0)),
  )
  // A page may be asked for again: whoever is behind reads it for himself.
  assert.deepEqual(await snapshot.page(1), pages[1])
})

test('What is committed between two pages is in none of them, and in the replay that begins where they end', async (t) => {
  const { database, replay, project_id, issue_id, since } = await start(t)
  const [early, person] = [await database.connect(), await database.connect()]
  // It takes its number before the others, and its place among them, and commits while they are read.
  await early.query('begin')
  await early.query(insert, [project_id, issue_id, 'early number', 2])
  await person.query(insert, [project_id, issue_id, 'seen', pageSize + 10])
  const snapshot = await replay.read(project_id, since)
  const pages = await pagesOf(snapshot, async (number) => {
    if (number > 0) return
    await early.query('commit')
    await person.query(insert, [project_id, issue_id, 'later', 3])
  })
  const titles = (changes: Change[]) => new Set(changes.flatMap(({ text }) => JSON.parse(text).data?.title ?? []))
  const events = pages.flat().filter(({ event }) => event)
  assert.deepEqual([events.length, titles(events)], [pageSize + 10, new Set(['seen'])])
  const rest = (await pagesOf(await replay.read(project_id, snapshot.position))).flat()
  assert.deepEqual([...titles(rest)].sort(), ['early number', 'later', 'seen'])
})

test('What is deleted between two pages leaves the others whole', async (t) => {
  const { database, replay, project_id, issue_id, since } = await start(t)
  await database.sql(insert, [project_id, issue_id, 'some', 3 * pageSize])
  const snapshot = await replay.read(project_id, since)
  const seen: string[] = []
  for (let number = 0; ; number++) {
    const page = await snapshot.page(number)
    if (!page) break
    seen.push(...page.map(({ key }) => key.slice(1)))
    await database.sql(
      `delete from events where id in (select id from events where replace(id::text, '-', '') <> all ($1::text[]) limit 50)`,
      [seen],
    )
  }
  const rows = await database.sql<{ id: string }>("select replace(id::text, '-', '') as id from events")
  const told = new Set(seen)
  assert.equal(told.size, seen.length)
  assert.deepEqual(
    rows.filter(({ id }) => !told.has(id)),
    [],
  )
})

test('A page that is read again after a deletion does not move the next one away from others', async (t) => {
  const { database, replay, project_id, issue_id, since } = await start(t)
  await database.sql(insert, [project_id, issue_id, 'some', 2 * pageSize])
  const snapshot = await replay.read(project_id, since)
  const first = (await snapshot.page(0))!
  const gone = first.slice(-50).map(({ key }) => key.slice(1))
  await database.sql("delete from events where replace(id::text, '-', '') = any ($1::text[])", [gone])
  await snapshot.page(0)
  const rest: Change[] = []
  for (let number = 1, page = await snapshot.page(1); page; page = await snapshot.page(++number)) rest.push(...page)
  const told = new Set([...first, ...rest].map(({ key }) => key.slice(1)))
  const rows = await database.sql<{ id: string }>("select replace(id::text, '-', '') as id from events")
  assert.deepEqual(
    rows.filter(({ id }) => !told.has(id)),
    [],
  )
})

test('Where there is nothing to tell no page is read', async (t) => {
  const { replay, since } = await start(t)
  const snapshot = await replay.read('999', since)
  assert.deepEqual([snapshot.reason, await snapshot.page(0)], [null, null])
})
