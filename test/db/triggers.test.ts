import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { eventOf, openWriter, wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart, query } from '../support/database.ts'
import { listen } from '../support/listen.ts'
import { createRandom } from '../support/random.ts'

async function open(t: TestContext) {
  const database = await createDatabase(t)
  const { project_id } = await firstStart(database)
  const ear = await listen(database)
  const [role] = await database.sql<{ role: string }>('select current_user as role')
  return {
    database,
    project_id,
    ear,
    role: role!.role,
    /** Issues made by hand; their ids. */
    async issues(count: number, columns: { title?: string; culprit?: string; status?: string } = {}) {
      const rows = await database.sql<{ id: string }>(
        `insert into issues (project_id, short_id, title, culprit, level, status)
         select $1, 'APP-' || gen_random_uuid(), $3, $4, 'error', $5 from generate_series(1, $2) returning id`,
        [project_id, count, columns.title ?? 'by hand', columns.culprit ?? null, columns.status ?? 'unresolved'],
      )
      return rows.map((row) => row.id)
    },
    async unresolved() {
      const [row] = await database.sql<{ told: string; counted: string }>(
        `select c.unresolved as told, (select count(*) from issues where project_id = $1 and status = 'unresolved') as counted
           from project_counters c where c.project_id = $1`,
        [project_id],
      )
      assert.equal(row!.told, row!.counted)
      return Number(row!.told)
    },
  }
}

test('Every change of an issue that people see is told by its name, with the role that made it', async (t) => {
  const { database, ear, issues, role } = await open(t)
  const [id] = await issues(1)
  const created = await ear.hear()
  assert.deepEqual(
    created.issues.map((change) => [change.action, change.issue_id, change.actor]),
    [['created', id, role]],
  )
  assert.deepEqual([created.of('issues')[0]!.unresolved, created.issues[0]!.issue?.status], [1, 'unresolved'])

  const steps: [sql: string, actions: string[], unresolved: number][] = [
    ["status = 'resolved'", ['resolved'], 0],
    ["status = 'unresolved'", ['unresolved'], 1],
    ["status = 'resolved'", ['resolved'], 0],
    ["status = 'unresolved', regressed_at = now()", ['regressed'], 1],
    ["status = 'archived'", ['archived'], 0],
    ["status = 'discarded'", ['discarded'], 0],
    ["status = 'unresolved'", ['unresolved'], 1],
    ["assigned_to = 'ada'", ['assigned'], 1],
    ["assigned_to = 'grace'", ['assigned'], 1],
    ['assigned_to = null', ['unassigned'], 1],
    ["title = 'a better title'", ['updated'], 1],
    ["level = 'fatal', platform = 'python', culprit = 'checkout'", ['updated'], 1],
    ["status = 'resolved', assigned_to = 'ada', title = 'all at once'", ['resolved', 'assigned', 'updated'], 0],
    ["first_seen = now() - interval '1 day'", [], 0],
    ["status = 'resolved', assigned_to = 'ada'", [], 0],
  ]
  for (const [sql, actions, unresolved] of steps) {
    await database.sql(`update issues set ${sql}`)
    const heard = await ear.hear()
    assert.deepEqual(
      heard.issues.map((change) => change.action),
      actions,
      sql,
    )
    if (actions.length === 0) assert.deepEqual(heard.payloads, [], sql)
    else assert.equal(heard.of('issues')[0]!.unresolved, unresolved, sql)
    assert.ok(heard.issues.every((change) => change.actor === role && change.issue_id === id))
  }
  await database.sql('delete from issues')
  const [deleted] = (await ear.hear()).issues
  assert.deepEqual([deleted?.action, deleted?.issue_id, deleted?.issue], ['deleted', id, null])

  const recorded = await database.sql<{ action: string }>('select action from issue_activity order by id')
  assert.deepEqual(
    recorded.map((row) => row.action),
    ['created', ...steps.flatMap(([, actions]) => actions), 'deleted'],
  )
  const details = await database.sql(
    "select action, data from issue_activity where action in ('assigned', 'deleted') order by id",
  )
  assert.deepEqual(details[0], { action: 'assigned', data: { from: null, to: 'ada' } })
  assert.equal((details.at(-1)!.data as { title: string }).title, 'all at once')
})

test('Several changed issues come in one payload, in the order of their ids, with the count after all of them', async (t) => {
  const { database, ear, issues, project_id } = await open(t)
  const ids = await issues(10)
  await ear.hear()
  await database.sql("update issues set status = 'resolved' where id = any ($1)", [ids.slice(0, 7)])
  const heard = await ear.hear()
  assert.equal(heard.payloads.length, 1)
  assert.deepEqual(
    heard.issues.map((change) => [change.action, change.issue_id]),
    ids.slice(0, 7).map((id) => ['resolved', id]),
  )
  const [payload] = heard.of('issues')
  assert.deepEqual([payload!.project_id, payload!.unresolved], [project_id, 3])
  assert.equal(new Set(heard.issues.map((change) => change.activity_id)).size, 7)
})

test('One statement on the issues of several projects tells each project of its own', async (t) => {
  const { database, ear, issues, project_id } = await open(t)
  const [other] = await database.sql<{ id: string }>(
    "insert into projects (organization_id, slug, name) select id, 'other', 'Other' from organizations returning id",
  )
  await issues(3)
  await database.sql(
    `insert into issues (project_id, short_id, title, level) select $1, 'O-' || n, 't', 'error' from generate_series(1, 2) n`,
    [other!.id],
  )
  await ear.hear()
  await database.sql("update issues set status = 'archived'")
  const told = (await ear.hear()).of('issues').map((one) => [one.project_id, one.issues.length, one.unresolved])
  assert.deepEqual(told, [
    [project_id, 3, 0],
    [other!.id, 2, 0],
  ])
})

test('A change that is rolled back is not told, not recorded and not counted', async (t) => {
  const { database, ear, issues, unresolved } = await open(t)
  await issues(2)
  await ear.hear()
  const person = await database.connect()
  await person.query('begin')
  await person.query("update issues set status = 'resolved'")
  await person.query('savepoint half')
  await person.query('delete from issues')
  await person.query('rollback to half')
  await person.query('rollback')
  assert.deepEqual((await ear.hear()).payloads, [])
  assert.equal(await unresolved(), 2)
  assert.deepEqual(await database.sql("select from issue_activity where action <> 'created'"), [])
})

test('What is undone to a savepoint is not told, the rest of the transaction is', async (t) => {
  const { database, ear, issues, unresolved } = await open(t)
  const ids = await issues(3)
  await ear.hear()
  const person = await database.connect()
  await person.query('begin')
  await person.query("update issues set status = 'resolved' where id = $1", [ids[0]])
  await person.query('savepoint half')
  await person.query("update issues set status = 'archived' where id = $1", [ids[1]])
  await person.query('rollback to half')
  await person.query("update issues set status = 'archived' where id = $1", [ids[2]])
  assert.deepEqual((await ear.hear()).payloads, [], 'nothing is told before the commit')
  await person.query('commit')
  const heard = await ear.hear()
  assert.deepEqual(
    heard.issues.map((change) => [change.action, change.issue_id]),
    [
      ['resolved', ids[0]],
      ['archived', ids[2]],
    ],
  )
  assert.equal(heard.of('issues').at(-1)!.unresolved, 1)
  assert.equal(await unresolved(), 1)
})

test('The actor is whom the server named for this transaction, else the role that was taken, else the login', async (t) => {
  const { database, ear, issues, role } = await open(t)
  const [id] = await issues(1)
  await ear.hear()
  const person = await database.connect()
  const toggle =
    "update issues set status = case status when 'resolved' then 'unresolved' else 'resolved' end where id = $1"
  const actor = async () => (await ear.hear()).issues.map((change) => change.actor)

  await person.query('begin')
  await person.query("select set_config('mesher.actor', 'token:deploy', true)")
  await person.query(toggle, [id])
  await person.query('commit')
  assert.deepEqual(await actor(), ['token:deploy'])
  await person.query(toggle, [id])
  assert.deepEqual(await actor(), [role], 'the name ends with its transaction')

  const name = `triager_${Date.now()}`
  await database.sql(`create role ${name}`)
  t.after(() => query(process.env.TEST_DATABASE_URL!, `drop role if exists ${name}`))
  await database.sql(`grant select, update on issues to ${name}`)
  await person.query(`set role ${name}`)
  await person.query(toggle, [id])
  assert.deepEqual(await actor(), [name])
  await person.query('begin')
  await person.query("select set_config('mesher.actor', $1, true)", ['\u0001€'.repeat(5_000)])
  await person.query(toggle, [id])
  await person.query('commit')
  assert.equal((await actor())[0]?.length, 200, 'an endless name is cut')
  await database.sql(`drop owned by ${name}`)
})

test('A role that may only update issues can act on them, and its changes are counted and told', async (t) => {
  const { database, ear, issues, unresolved } = await open(t)
  const [id] = await issues(2)
  await ear.hear()
  const name = `only_update_${Date.now()}`
  await database.sql(`create role ${name} login password 'test'`)
  t.after(() => query(process.env.TEST_DATABASE_URL!, `drop role if exists ${name}`))
  await database.sql(`grant select, update on issues to ${name}`)
  const url = new URL(database.url)
  url.username = name
  url.password = 'test'
  await query(url.href, "update issues set status = 'resolved' where id = $1", [id])
  const [change] = (await ear.hear()).issues
  assert.deepEqual([change?.action, change?.actor, change?.issue?.status], ['resolved', name, 'resolved'])
  assert.equal(await unresolved(), 1)
  await assert.rejects(query(url.href, 'delete from issues'), { code: '42501' })
  await assert.rejects(query(url.href, 'update project_counters set unresolved = 0'), { code: '42501' })
  await database.sql(`drop owned by ${name}`)
})

test('An issue and an event inserted by hand are told as if the server had written them', async (t) => {
  const { database, ear, issues, project_id, unresolved } = await open(t)
  const [id] = await issues(1)
  const [event] = await database.sql<{ id: string }>(
    "insert into events (project_id, issue_id, title, level) values ($1, $2, 'by hand', 'info') returning id",
    [project_id, id],
  )
  const heard = await ear.hear()
  assert.deepEqual(
    heard.events.map((told) => [told.id, told.issue_id, told.level, told.title]),
    [[event!.id.replaceAll('-', ''), id, 'info', 'by hand']],
  )
  assert.equal(heard.issues[0]!.issue?.event_count, 0)
  assert.equal(await unresolved(), 1)
})

test('DELETE and TRUNCATE take everything of the issues along, and both are told', async (t) => {
  const { database, ear, project_id, unresolved } = await open(t)
  const writer = openWriter(t, database)
  const events = (n: number) =>
    Array.from({ length: 20 }, (_, k) => eventOf(`issue ${n} ${k % 4}`, { user: `id:${k}`, tags: [['a', String(k)]] }))
  await writer.write(project_id, events(1))
  await ear.hear()
  await database.sql('delete from issues where id = (select min(id) from issues)')
  assert.deepEqual(
    (await ear.hear()).issues.map((change) => change.action),
    ['deleted'],
  )
  assert.deepEqual(await wrongCounts(database, { deleted: true }), [])
  assert.equal(await unresolved(), 3)

  await database.sql('truncate issues')
  const [bulk] = (await ear.hear()).of('bulk')
  assert.deepEqual([bulk?.project_id, bulk?.unresolved], [project_id, 0])
  for (const table of ['issue_stats', 'issue_hashes', 'issue_hourly', 'issue_tags', 'issue_users', 'events']) {
    assert.deepEqual(await database.sql(`select from ${table} limit 1`), [], table)
  }
  await writer.write(project_id, events(2))
  assert.equal((await ear.hear()).issues.length, 4)
  assert.equal(await unresolved(), 4)
})

test('Five hundred changed issues are told one by one, more become one bulk payload, and all are counted and recorded', async (t) => {
  const { database, ear, issues, project_id, unresolved } = await open(t)
  const ids = await issues(5_000, { title: 'x'.repeat(300) })
  const made = await ear.hear()
  assert.deepEqual([made.payloads.length, made.of('bulk')[0]?.changes], [1, 5_000])

  await database.sql("update issues set status = 'resolved' where id = any ($1)", [ids.slice(0, 500)])
  const told = await ear.hear()
  assert.deepEqual(
    told.issues.map((change) => change.issue_id),
    ids.slice(0, 500),
  )
  assert.ok(told.of('issues').every((payload) => payload.unresolved === 4_500))

  await database.sql("update issues set status = 'archived'")
  const heard = await ear.hear()
  assert.equal(heard.payloads.length, 1)
  const [bulk] = heard.of('bulk')
  assert.deepEqual([bulk?.project_id, bulk?.changes, bulk?.unresolved], [project_id, 5_000, 0])
  assert.equal(await unresolved(), 0)
  const [recorded] = await database.sql<{ n: string }>(
    "select count(*) as n from issue_activity where action = 'archived'",
  )
  assert.equal(recorded!.n, '5000')
})

test('Texts of any length and any characters fit into payloads, and are told as they begin', async (t) => {
  const { database, ear, project_id } = await open(t)
  const writer = openWriter(t, database)
  // A control character takes six bytes in JSON, a basket four in UTF-8, a quote two.
  const texts = [
    'x'.repeat(20_000),
    '\u0001'.repeat(20_000),
    '🧺'.repeat(20_000),
    '"\\'.repeat(10_000),
    '\u007f€'.repeat(9_000),
  ]
  const events = texts.map((text) =>
    eventOf(text, {
      ...{ culprit: text, message: text, transaction: text, server_name: text, user: text.slice(0, 200) },
      ...{ environment: text.slice(0, 64), release: text.slice(0, 250), platform: text.slice(0, 64) },
      tags: [['long', text.slice(0, 200)]],
    }),
  )
  const outcomes = await writer.write(project_id, events)
  const heard = await ear.hear()
  assert.equal(heard.events.length, texts.length)
  for (const told of heard.events) {
    const text = texts[events.findIndex((event) => event.id === told.id)]!
    for (const field of ['title', 'culprit', 'message', 'transaction', 'server_name', 'user', 'release'] as const) {
      assert.ok(told[field]!.length >= 40 && text.startsWith(told[field]!), `${field} of ${text.slice(0, 2)}`)
    }
    assert.equal(told.environment, text.slice(0, 64), 'filters need the whole environment')
  }
  const created = heard.issues
  assert.deepEqual(
    new Set(created.map((change) => change.issue_id)),
    new Set(outcomes.map((outcome) => outcome.issue_id)),
  )
  for (const change of created) assert.ok(texts.some((text) => text.startsWith(change.issue!.title)))

  await database.sql('update issues set assigned_to = $1, status = $2, platform = $3', [
    '\u0001'.repeat(20_000),
    'archived',
    '\u0002'.repeat(20_000),
  ])
  assert.deepEqual(
    (await ear.hear()).issues.map((change) => change.action).sort(),
    texts.flatMap(() => ['archived', 'assigned', 'updated']).sort(),
  )
  await database.sql('delete from issues')
  assert.equal((await ear.hear()).issues.length, texts.length)
})

test('A thousand events in one INSERT are told completely, in payloads below the limit', async (t) => {
  const { database, ear, issues, project_id } = await open(t)
  const [id] = await issues(1)
  await ear.hear()
  const random = createRandom()
  const texts = Array.from({ length: 40 }, () =>
    Array.from({ length: random.below(260) }, () => random.pick(['a', '€', '\u0003', '"', '🧺', '\n', '<'])).join(''),
  )
  const rows = await database.sql<{ id: string }>(
    `insert into events (project_id, issue_id, title, message, culprit, server_name, user_key, environment)
     select $1, $2, t.texts[1 + n % 40], t.texts[1 + n % 39], t.texts[1 + n % 38], t.texts[1 + n % 37], t.texts[1 + n % 36],
            left(t.texts[1 + n % 35], 64)
       from generate_series(1, 1000) n, (select $3::text[] as texts) t
     returning id`,
    [project_id, id, texts],
  )
  const heard = await ear.hear()
  assert.deepEqual(
    heard.events.map((event) => event.id).sort(),
    rows.map((row) => row.id.replaceAll('-', '')).sort(),
    `seed ${random.seed}`,
  )
  assert.equal(new Set(heard.payloads).size, heard.payloads.length)
  assert.ok(heard.payloads.length > 1 && heard.payloads.length < 700, `${heard.payloads.length} payloads`)
})

test('Small events share a payload', async (t) => {
  const { database, ear, project_id } = await open(t)
  await openWriter(t, database).write(
    project_id,
    Array.from({ length: 100 }, (_, n) => eventOf('same', { message: `${n}` })),
  )
  const heard = await ear.hear()
  assert.equal(heard.events.length, 100)
  assert.ok(heard.of('events').length <= 6, `${heard.of('events').length} payloads`)
})

test('The count of unresolved issues is exact after any changes by eight people at once, and versions tell the order', async (t) => {
  const { database, ear, issues, project_id, unresolved } = await open(t)
  const random = createRandom()
  await issues(60)
  const statuses = ['unresolved', 'resolved', 'archived', 'discarded'] as const
  await Promise.all(
    Array.from({ length: 8 }, async (_, person) => {
      const client = await database.connect(`person ${person}`)
      for (let step = 0; step < 40; step++) {
        const id = random.below(70)
        const one = `(select id from issues order by id offset ${id % 60} limit 1)`
        const acts = [
          `update issues set status = '${random.pick(statuses)}' where id = ${one}`,
          `update issues set status = '${random.pick(statuses)}', assigned_to = 'p${person}' where id = ${one}`,
          `delete from issues where id = ${one}`,
          `insert into issues (project_id, short_id, title, level, status)
             values (${project_id}, 'P-${person}-${step}', 't', 'error', '${random.pick(statuses)}')`,
        ]
        const rollback = random.below(4) === 0
        await client.query(rollback ? 'begin' : '')
        await client.query(random.pick(acts))
        await client.query(rollback ? 'rollback' : '')
      }
    }),
  )
  const count = await unresolved()
  const counts = new Map<number, number>()
  for (const { version, unresolved } of (await ear.hear()).of('issues')) {
    assert.equal(counts.get(version) ?? unresolved, unresolved, `one count a version, seed ${random.seed}`)
    counts.set(version, unresolved)
  }
  const versions = [...counts.keys()]
  assert.deepEqual(
    versions,
    versions.toSorted((a, b) => a - b),
    `told in the order of commits, seed ${random.seed}`,
  )
  assert.equal(counts.get(versions.at(-1)!), count, `the last count is the true one, seed ${random.seed}`)
})

test('Applying triggers.sql and ingest_batch.sql again changes nothing, also with psql’s settings', async (t) => {
  const { database } = await open(t)
  const { readFile } = await import('node:fs/promises')
  const facts = () =>
    database.sql(`
      select 'function' as kind, p.proname as name, pg_get_functiondef(p.oid) as text from pg_proc p
       where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
      union all select 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
      union all select 'comment', objoid::regprocedure::text, description from pg_description where classoid = 'pg_proc'::regclass
        and objoid in (select oid from pg_proc where pronamespace = 'public'::regnamespace)
      order by 1, 2, 3`)
  const before = await facts()
  for (const file of ['ingest_batch.sql', 'triggers.sql', 'triage.sql']) {
    await database.sql(await readFile(new URL(`../../db/${file}`, import.meta.url), 'utf8'))
  }
  assert.ok(before.length > 20)
  assert.deepEqual(await facts(), before)
})

test('Every unique index on the tables that are split by project leads with project_id', async (t) => {
  const { database } = await open(t)
  const rows = await database.sql<{ name: string; leads: string }>(`
    select i.indexrelid::regclass::text as name, a.attname as leads
      from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
     where i.indisunique and i.indrelid::regclass::text ~ '^(events|event_ids|issues|issue_|project_hourly|project_counters)'`)
  assert.ok(rows.length >= 12)
  assert.deepEqual(
    rows.filter((row) => row.leads !== 'project_id'),
    [],
  )
})
