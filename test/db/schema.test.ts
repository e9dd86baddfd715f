import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { promisify } from 'node:util'
import type pg from 'pg'
import { dumpCatalog } from '../../server/cli/catalog.ts'
import { migrate } from '../../server/db/migrate.ts'
import { createLog } from '../../server/log.ts'
import { createDatabase, type TestDatabase } from '../support/database.ts'

const log = createLog('error')
const folder = new URL('../../db/', import.meta.url)

async function sqlFile(path: string): Promise<string> {
  return readFile(new URL(path, folder), 'utf8')
}

async function sqlFiles(directory: string): Promise<string[]> {
  return (await readdir(new URL(directory, folder))).filter((file) => file.endsWith('.sql')).sort()
}

/** As `psql -1 -f` does it: the files in order, nothing else. */
async function applyByHand(client: pg.Client): Promise<void> {
  for (const file of await sqlFiles('migrations/')) await client.query(await sqlFile(`migrations/${file}`))
  for (const file of ['ingest_batch.sql', 'triggers.sql', 'triage.sql']) await client.query(await sqlFile(file))
}

/** The dump, and the text of every function, which the dump leaves out. */
async function everything(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ text: string }>(
    `select pg_get_functiondef(oid) as text from pg_proc where pronamespace = 'public'::regnamespace order by 1`,
  )
  return [await dumpCatalog(client), ...rows.map((row) => row.text)].join('\n')
}

test('db/schema.sql and the kysely types are what the migrations make of them', async () => {
  const args = ['--import', 'tsx', 'server/cli/schema.ts', '--check']
  await promisify(execFile)(process.execPath, args, { cwd: new URL('../../', import.meta.url) })
})

test('A database that was made with psql alone is taken over by the server unchanged', async (t) => {
  const database = await createDatabase(t, { migrated: false })
  const client = await database.connect()
  await applyByHand(client)
  const before = await everything(client)
  await migrate(database.url, log)
  assert.equal(await everything(client), before)
})

test('The server makes the same database as the SQL files through psql', async (t) => {
  const [byHand, byServer] = await Promise.all([createDatabase(t, { migrated: false }), createDatabase(t)])
  const [hand, server] = await Promise.all([byHand.connect(), byServer.connect()])
  await applyByHand(hand)
  assert.equal(await everything(server), await everything(hand))
})

test('Applying ingest_batch.sql and triggers.sql again changes nothing', async (t) => {
  const database = await createDatabase(t)
  const client = await database.connect()
  const before = await everything(client)
  for (const file of ['ingest_batch.sql', 'triggers.sql', 'triage.sql']) await client.query(await sqlFile(file))
  assert.equal(await everything(client), before)
})

test('Migrating a second time runs no migration again', async (t) => {
  const database = await createDatabase(t)
  const applied = 'select name, checksum, applied_at from schema_migrations order by name'
  const before = await database.sql(applied)
  await migrate(database.url, log)
  assert.deepEqual(await database.sql(applied), before)
})

test('Servers that start together on an empty database migrate it once', async (t) => {
  const database = await createDatabase(t, { migrated: false })
  await Promise.all([migrate(database.url, log), migrate(database.url, log), migrate(database.url, log)])
  const applied = await database.sql<{ name: string }>('select name from schema_migrations order by name')
  const migrations = (await sqlFiles('migrations/')).map((file) => file.replace(/\.sql$/, ''))
  assert.deepEqual(
    applied.map((row) => row.name),
    [...migrations, 'ingest_batch.sql', 'triggers.sql', 'triage.sql'].sort(),
  )
})

test('A migration that was edited after it had been applied is refused, by name', async (t) => {
  const database = await createDatabase(t)
  await database.sql("update schema_migrations set checksum = 'of another text' where name = '0001_create_tables'")
  await assert.rejects(migrate(database.url, log), (error: Error) => {
    assert.match(error.message, /^db\/migrations\/0001_create_tables\.sql was changed after it had been applied: .+$/)
    return true
  })
})

test('A database of a newer Mesher is refused and left as it is', async (t) => {
  const database = await createDatabase(t)
  await database.sql("insert into schema_migrations (name, checksum) values ('9999_from_the_future', 'x')")
  await database.sql('drop function mesher_actor()')
  await assert.rejects(migrate(database.url, log), (error: Error) => {
    assert.match(error.message, /^this database was migrated by a newer Mesher \(9999_from_the_future\): .+$/)
    return true
  })
  assert.deepEqual(await database.sql("select to_regproc('mesher_actor') as found"), [{ found: null }])
})

// A table is distributed by its project, or it is one of these and knows no project, or is copied to every server.
const withoutProject = [
  'api_tokens',
  'audit_log',
  'memberships',
  'one_time_links',
  'organizations',
  'projects',
  'schema_migrations',
  'sessions',
  'sign_in_failures',
  'stream_epochs',
  'user_identities',
  'users',
]
// An SDK names its key, and the key tells the project: it is looked up, once and cached, before a project is known.
const mayLeadOtherwise = ['project_keys_pkey']

interface UniqueIndex {
  index_name: string
  first_column: string
}

test('Every unique index on the tables of a project leads with project_id', async (t) => {
  const database = await createDatabase(t)
  const indexes = await database.sql<UniqueIndex>(`
    select i.indexrelid::regclass::text as index_name, pg_get_indexdef(i.indexrelid, 1, true) as first_column
      from pg_index i join pg_class c on c.oid = i.indrelid
     where c.relnamespace = 'public'::regnamespace and (i.indisunique or i.indisexclusion)
       and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'project_id' and not a.attisdropped)`)
  assert.ok(indexes.some((index) => /^events_\d{8}_pkey$/.test(index.index_name)))
  assert.deepEqual(
    indexes.filter((index) => index.first_column !== 'project_id').map((index) => index.index_name),
    mayLeadOtherwise,
  )
})

test('Every table belongs to a project, but for the few that are older than any project', async (t) => {
  const database = await createDatabase(t)
  const tables = await database.sql<{ name: string }>(`
    select c.relname as name
      from pg_class c
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
       and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'project_id' and not a.attisdropped)
     order by c.relname collate "C"`)
  assert.deepEqual(
    tables.map((table) => table.name),
    withoutProject,
  )
})

interface Heard {
  action: string
  issues?: { action: string; actor: string }[]
}

/** As `psql -f`: each statement in a transaction of its own, but for those between begin and rollback. */
async function tour(client: pg.Client, file: string): Promise<Record<string, unknown>[][]> {
  const statements = (await sqlFile(`check/${file}`)).split(/;$/m).filter((statement) => statement.trim() !== '')
  const results: Record<string, unknown>[][] = []
  for (const statement of statements) results.push((await client.query(statement)).rows)
  return results
}

async function tourOfAll(database: TestDatabase) {
  const client = await database.connect()
  const heard: Heard[] = []
  client.on('notification', ({ payload }) => heard.push(JSON.parse(payload!) as Heard))
  const files = await sqlFiles('check/')
  const results = new Map<string, Record<string, unknown>[][]>()
  for (const file of files) results.set(file, await tour(client, file))
  return { heard, results }
}

test('The tours in db/check show what they say, with no server', async (t) => {
  const database = await createDatabase(t, { migrated: false })
  await applyByHand(await database.connect())
  const [{ role } = { role: '' }] = await database.sql<{ role: string }>('select session_user as role')
  const { heard, results } = await tourOfAll(database)

  const [ingested, again, issues, events] = results.get('01_ingest.sql')!.slice(-4)
  assert.equal(ingested![0]!.r_statuses, 'aaa')
  assert.equal(again![0]!.r_statuses, 'a')
  assert.deepEqual(
    issues!.map((issue) => [issue.short_id, issue.event_count, issue.user_count]),
    [
      ['CHECK-1', '2', '2'],
      ['CHECK-2', '1', '0'],
    ],
  )
  assert.deepEqual(
    events!.map((event) => event.n),
    ['1', '2', '3'],
  )

  const [activity, counted] = results.get('02_listen.sql')!.slice(-2)
  assert.deepEqual(
    activity!.map((one) => [one.short_id, one.action, one.actor]),
    [
      ['CHECK-1', 'created', 'ingest'],
      ['CHECK-2', 'created', 'ingest'],
      ['CHECK-1', 'resolved', role],
      ['CHECK-1', 'regressed', 'ingest'],
    ],
  )
  assert.equal(counted![0]!.unresolved, counted![0]!.counted)

  const [, merged, , apart] = results.get('03_merge.sql')!.slice(-4)
  assert.deepEqual(merged, [{ short_id: 'CHECK-1', event_count: '4', events: '4' }])
  assert.deepEqual(apart, [
    { short_id: 'CHECK-1', event_count: '3', events: '3' },
    { short_id: 'CHECK-2', event_count: '1', events: '1' },
  ])

  const [left, , projects] = results.get('04_delete.sql')!.slice(-3)
  assert.deepEqual(left, [{ issues: '1', stats: '1', hashes: '1', events: '3' }])
  assert.deepEqual(projects, [{ projects: '0' }])

  // The update that was rolled back is not among them.
  assert.deepEqual(
    heard.flatMap((one) => one.issues?.map((issue) => issue.action) ?? one.action),
    ['resolved', 'regressed', 'events', 'merged', 'updated', 'created', 'updated', 'deleted', 'deleted'],
  )
})
