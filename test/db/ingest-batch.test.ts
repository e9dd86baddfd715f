import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createContention } from '../../server/contention.ts'
import { createPool } from '../../server/db/pool.ts'
import { findKnownHashes } from '../../server/db/probe.ts'
import type { Outcome } from '../../server/ingest/accept.ts'
import type { Event } from '../../server/ingest/event.ts'
import { createWriter } from '../../server/write/writer.ts'
import { eventOf, newId, openWriter, tagCounts, wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart, type TestDatabase } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { createTestLog } from '../support/log.ts'
import { createRandom } from '../support/random.ts'

async function open(t: TestContext) {
  const database = await createDatabase(t)
  const { project_id } = await firstStart(database)
  return { database, project_id, writer: openWriter(t, database) }
}

/** The writer itself, with all it does about batches that fail. */
async function startWriter(t: TestContext, database: TestDatabase, connections = 3) {
  const log = createTestLog()
  const pool = createPool(database.url, log)
  const writer = createWriter({
    databaseUrl: database.url,
    connections,
    grace: 1_000,
    log,
    contention: createContention(),
    findBlocker: async () => null,
    findKnown: (projectId, hashes) => findKnownHashes(pool, projectId, hashes),
    limits: { batchEvents: 20 },
  })
  t.after(async () => {
    await writer.stop()
    await pool.end()
  })
  await writer.start()
  return { ...writer, log }
}

async function addProject(database: TestDatabase, slug: string): Promise<string> {
  const [row] = await database.sql<{ id: string }>(
    'insert into projects (organization_id, slug, name) select id, $1, $1 from organizations limit 1 returning id',
    [slug],
  )
  return row!.id
}

const numberOf = async (database: TestDatabase, text: string, values: unknown[] = []) =>
  Number(Object.values((await database.sql<Record<string, string>>(text, values))[0]!)[0])

/** Adds the tags that batches counted, a few batches at a time, as long as others write. */
async function fold(database: TestDatabase, writing: () => boolean): Promise<void> {
  const client = await database.connect('test fold')
  while (writing()) await client.query('select fold_issue_tags(id, 3) from projects')
}

const sumOf = (tags: { events: number }[]) => tags.reduce((sum, tag) => sum + tag.events, 0)

test('An event id that comes twice in a batch is stored and counted once, and answered alike', async (t) => {
  const { database, project_id, writer } = await open(t)
  const twice = eventOf('no basket', { user: 'id:1', tags: [['browser', 'Firefox']] })
  const outcomes = await writer.write(project_id, [twice, eventOf('other'), { ...twice, title: 'changed' }, twice])
  assert.equal(outcomes[0]!.status, 'accepted')
  assert.deepEqual(outcomes[2], outcomes[0])
  assert.deepEqual(outcomes[3], outcomes[0])
  assert.notEqual(outcomes[1]!.issue_id, outcomes[0]!.issue_id)
  assert.equal(await numberOf(database, 'select count(*) from events'), 2)
  assert.deepEqual(await tagCounts(database), [{ key: 'browser', value: 'Firefox', events: 1 }])
  assert.deepEqual(await wrongCounts(database), [])
})

test('What a hash is of is kept once with it, and an event keeps its hash', async (t) => {
  const { database, project_id, writer } = await open(t)
  const [first, second, other] = [eventOf('no basket'), eventOf('no basket'), eventOf('no "stock"')]
  await writer.write(project_id, [first, second, other])
  await writer.write(project_id, [eventOf('no basket', { components: ['["another"]'], grouping_algo: 'g9' })])
  assert.deepEqual(
    await database.sql(
      "select replace(hash::text, '-', '') as hash, algo, components from issue_hashes order by issue_id",
    ),
    [
      { hash: first.hashes[0], algo: 'g1', components: ['msg', 'no basket'] },
      { hash: other.hashes[0], algo: 'g1', components: ['msg', 'no "stock"'] },
    ],
  )
  assert.deepEqual(
    await database.sql("select replace(hash::text, '-', '') as hash, count(*)::int from events group by 1 order by 2"),
    [
      { hash: other.hashes[0], count: 1 },
      { hash: first.hashes[0], count: 3 },
    ],
  )
})

test('An event that is sent again later is answered like the first time, whatever it says by then', async (t) => {
  const { database, project_id, writer } = await open(t)
  const first = eventOf('no basket')
  const [stored] = await writer.write(project_id, [first])
  const again = { ...eventOf('another issue'), id: first.id }
  assert.deepEqual(await writer.write(project_id, [again, eventOf('new')]).then((all) => all[0]), stored)
  assert.deepEqual(await writer.write(project_id, [again]), [stored])
  assert.equal(await numberOf(database, 'select count(*) from events'), 2)
  assert.equal(await numberOf(database, 'select count(*) from issues'), 2)
  assert.deepEqual(await wrongCounts(database), [])
})

test('The same id in two projects is two events', async (t) => {
  const { database, project_id, writer } = await open(t)
  const other = await addProject(database, 'other')
  const event = eventOf('no basket')
  const [one] = await writer.write(project_id, [event])
  const [two] = await writer.write(other, [event])
  assert.notEqual(one!.issue_id, two!.issue_id)
  assert.equal(await numberOf(database, 'select count(*) from events'), 2)
  assert.deepEqual(await wrongCounts(database), [])
})

test('The same events sent through eight connections at once are stored once, and every sender hears so', async (t) => {
  const { database, project_id } = await open(t)
  const random = createRandom()
  const events = Array.from({ length: 60 }, (_, n) =>
    eventOf(`issue ${n % 7}`, { id: random.hex(32), user: `id:${n % 5}`, tags: [['n', String(n % 3)]] }),
  )
  const writers = Array.from({ length: 8 }, () => openWriter(t, database))
  const heard = await Promise.all(
    writers.map(async ({ write }) => {
      const order = random.shuffled(events)
      const outcomes = await write(project_id, order)
      return new Map(order.map((event, index) => [event.id, outcomes[index]!.issue_id]))
    }),
  )
  const stored = await database.sql<{ id: string; issue_id: string }>('select id, issue_id from events')
  assert.equal(stored.length, events.length, `seed ${random.seed}`)
  for (const { id, issue_id } of stored) {
    for (const answers of heard) assert.equal(answers.get(id.replaceAll('-', '')), issue_id, `seed ${random.seed}`)
  }
  assert.equal(sumOf(await tagCounts(database)), events.length)
  assert.deepEqual(await wrongCounts(database), [], `seed ${random.seed}`)
})

test('Eight writers on the same hot issues never deadlock, and every count is exact', async (t) => {
  const { database, project_id } = await open(t)
  const other = await addProject(database, 'other')
  const random = createRandom()
  const hour = 3_600_000
  const now = Date.now()
  const sent: { project: string; event: Event }[] = []
  const randomEvent = () => {
    const users = [null, ...Array.from({ length: 12 }, (_, n) => `id:${n}`)]
    const event = eventOf(`issue ${random.below(25)}`, {
      id: random.below(10) === 0 && sent.length > 0 ? random.pick(sent).event.id : random.hex(32),
      received_at: now - random.below(3) * hour,
      level: random.pick(['fatal', 'error', 'warning', 'info', 'debug']),
      user: random.pick(users),
      tags: [
        ['browser', random.pick(['Firefox', 'Chrome', 'Safari'])],
        ['release', `1.${random.below(4)}`],
      ],
    })
    const project = random.pick([project_id, project_id, other])
    sent.push({ project, event })
    return { project, event }
  }
  let writing = true
  // Somebody resolves issues meanwhile, so that regressions are part of it.
  const person = await database.connect()
  const resolving = (async () => {
    while (writing) {
      await person.query(
        "update issues set status = 'resolved' where id = (select id from issues order by random() limit 1)",
      )
    }
  })()
  const folding = [fold(database, () => writing), fold(database, () => writing)]
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      const { connection } = openWriter(t, database)
      for (let batch = 0; batch < 12; batch++) {
        const events = Array.from({ length: 40 }, randomEvent)
        const waiting = events.map(({ project, event }) => ({
          ...{ project_id: project, lane: project, event, bytes: 0, since: 0 },
          ...{ resolve: () => {}, reject: () => {} },
        }))
        for (const outcome of await connection.write(waiting)) assert.equal(outcome.status, 'accepted')
      }
    }),
  ).finally(() => {
    writing = false
  })
  await Promise.all([resolving, ...folding])

  const ids = new Set(sent.map(({ project, event }) => `${project} ${event.id}`))
  assert.equal(await numberOf(database, 'select count(*) from events'), ids.size, `seed ${random.seed}`)
  assert.equal(await numberOf(database, 'select count(*) from issues'), 50, `seed ${random.seed}`)
  assert.equal(sumOf(await tagCounts(database)), 2 * ids.size, `seed ${random.seed}`)
  const regressions = "select count(*) from issue_activity where action = 'regressed'"
  assert.ok((await numberOf(database, regressions)) > 0, `no issue came back, seed ${random.seed}`)
  assert.equal(
    await numberOf(
      database,
      `select count(distinct (project_id, short_id)) from issues where short_id ~ '^(APP|OTHER)-[0-9]+$'`,
    ),
    50,
  )
  assert.deepEqual(await wrongCounts(database), [], `seed ${random.seed}`)
})

test('Events of a discarded issue are dropped and counted as such, and nothing else changes', async (t) => {
  const { database, project_id, writer } = await open(t)
  const [first] = await writer.write(project_id, [eventOf('noise', { user: 'id:1' })])
  await database.sql("update issues set status = 'discarded'")
  const before = await database.sql('select last_seen from issue_stats')
  const noise = eventOf('noise', { user: 'id:2', tags: [['a', 'b']], received_at: Date.now() + 5_000 })
  const outcomes = await writer.write(project_id, [noise, eventOf('kept'), eventOf('noise'), noise])
  const dropped = { status: 'dropped', reason: 'discarded', issue_id: first!.issue_id }
  assert.deepEqual([outcomes[0], outcomes[2], outcomes[3]], [dropped, dropped, dropped])
  assert.equal(outcomes[1]!.status, 'accepted')
  assert.deepEqual(await writer.write(project_id, [noise]), [dropped], 'sent again, it is answered like the first time')
  assert.deepEqual(
    await database.sql('select event_count, user_count, dropped_count from issue_stats where issue_id = $1', [
      first!.issue_id,
    ]),
    [{ event_count: '1', user_count: '1', dropped_count: '2' }],
  )
  const after = await database.sql('select last_seen from issue_stats where issue_id = $1', [first!.issue_id])
  assert.deepEqual(after, before)
  assert.equal(await numberOf(database, 'select count(*) from events'), 2)
  assert.deepEqual(await tagCounts(database), [])
  assert.equal(await numberOf(database, 'select unresolved from project_counters'), 1)
})

test('A new event reopens a resolved issue once, and leaves an archived one alone', async (t) => {
  const { database, project_id, writer } = await open(t)
  const [resolved, archived] = await writer.write(project_id, [eventOf('fixed'), eventOf('silenced')])
  await database.sql("update issues set status = case title when 'fixed' then 'resolved' else 'archived' end")
  await writer.write(project_id, [eventOf('fixed'), eventOf('silenced'), eventOf('fixed')])
  await writer.write(project_id, [eventOf('fixed')])
  const issues = await database.sql('select id, status, regressed_at is not null as regressed from issues order by id')
  assert.deepEqual(issues, [
    { id: resolved!.issue_id, status: 'unresolved', regressed: true },
    { id: archived!.issue_id, status: 'archived', regressed: false },
  ])
  assert.deepEqual(await database.sql("select issue_id, actor from issue_activity where action = 'regressed'"), [
    { issue_id: resolved!.issue_id, actor: 'ingest' },
  ])
  assert.deepEqual(await wrongCounts(database), [])
})

test('A repeated event does not reopen an issue', async (t) => {
  const { database, project_id, writer } = await open(t)
  const event = eventOf('fixed')
  await writer.write(project_id, [event])
  await database.sql("update issues set status = 'resolved'")
  await writer.write(project_id, [event])
  assert.deepEqual(await database.sql('select status from issues'), [{ status: 'resolved' }])
})

test('A batch whose issue is deleted while it waits says so, and finds a new issue when it is written again', async (t) => {
  const { database, project_id, writer } = await open(t)
  const [first] = await writer.write(project_id, [eventOf('gone')])
  const person = await database.connect()
  await person.query('begin')
  await person.query('delete from issues')
  const event = eventOf('gone')
  const written = writer.write(project_id, [event])
  const failed = assert.rejects(written, { code: 'MS001' })
  await eventually(async () =>
    assert.equal(
      await numberOf(
        database,
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'test writer' and datname = current_database()",
      ),
      1,
    ),
  )
  await person.query('commit')
  await failed
  const [second] = await writer.write(project_id, [event])
  assert.equal(second!.status, 'accepted')
  assert.notEqual(second!.issue_id, first!.issue_id)
  assert.equal(await numberOf(database, 'select count(*) from events'), 1)
  assert.deepEqual(await wrongCounts(database, { deleted: true }), [])
})

test('Issues that are deleted while their events come cost no event its answer, and leave nothing behind', async (t) => {
  const { database, project_id } = await open(t)
  const writer = await startWriter(t, database)
  const random = createRandom()
  let writing = true
  let deleted = 0
  const person = await database.connect()
  const deleting = (async () => {
    while (writing) {
      const { rowCount } = await person.query(
        'delete from issues where id = (select id from issues order by random() limit 1)',
      )
      deleted += rowCount ?? 0
    }
  })()
  const folding = fold(database, () => writing)
  const outcomes: Outcome[] = []
  // In waves: an issue has to be known to be deleted under its events.
  for (let wave = 0; wave < 30; wave++) {
    const events = Array.from({ length: 50 }, () =>
      eventOf(`issue ${random.below(6)}`, {
        ...{ id: random.hex(32), user: `id:${random.below(9)}`, received_at: Date.now() - random.below(3) * 3_600_000 },
        tags: [['release', `1.${random.below(5)}`]],
      }),
    )
    outcomes.push(...(await Promise.all(events.map((event) => writer.add(project_id, event)))))
  }
  writing = false
  await Promise.all([deleting, folding])
  assert.ok(outcomes.every((outcome) => outcome.status === 'accepted'))
  assert.ok(deleted > 10, `only ${deleted} were deleted, seed ${random.seed}`)
  assert.deepEqual(
    writer.log.lines.filter((line) => line.level === 'error'),
    [],
  )
  await tagCounts(database)
  for (const table of ['events', 'issue_tags', 'issue_hourly', 'issue_users', 'issue_stats', 'issue_hashes']) {
    const orphans = `select count(*) from ${table} x where not exists (select from issues i where i.id = x.issue_id)`
    assert.equal(await numberOf(database, orphans), 0, table)
  }
  assert.deepEqual(await wrongCounts(database, { deleted: true }), [], `seed ${random.seed}`)
})

test('A project that does not exist is refused, and its neighbours in the batch are stored', async (t) => {
  const { database, project_id, writer } = await open(t)
  await assert.rejects(writer.write('999', [eventOf('nowhere')]), { code: 'MS002' })
  const server = await startWriter(t, database)
  const [kept, refused, also] = await Promise.allSettled([
    server.add(project_id, eventOf('kept')),
    server.add('999', eventOf('nowhere')),
    server.add(project_id, eventOf('kept too')),
  ])
  assert.equal(kept!.status, 'fulfilled')
  assert.equal(also!.status, 'fulfilled')
  assert.equal(refused!.status === 'rejected' && refused.reason.code, 'forbidden')
  assert.equal(await numberOf(database, 'select count(*) from events'), 2)
  assert.deepEqual(await wrongCounts(database), [])
})

test('A project that was deleted takes no more events, and has left none', async (t) => {
  const { database, writer } = await open(t)
  const other = await addProject(database, 'other')
  await writer.write(other, [eventOf('one', { tags: [['a', 'b']] }), eventOf('two')])
  await database.sql('delete from projects where id = $1', [other])
  await assert.rejects(writer.write(other, [eventOf('one')]), { code: 'MS002' })
  for (const table of [
    'events',
    'issues',
    'issue_stats',
    'issue_hashes',
    'issue_tags',
    'issue_hourly',
    'project_counters',
  ]) {
    const left = await numberOf(database, `select count(*) from ${table} where project_id = $1`, [other])
    assert.equal(left, 0, table)
  }
})

test('Events of a day that has no partition yet get one', async (t) => {
  const { database, project_id, writer } = await open(t)
  const day = 86_400_000
  const later = eventOf('later', { received_at: Date.now() + 40 * day })
  const failure = await writer.write(project_id, [later]).catch((error) => error)
  assert.deepEqual([failure.code, failure.constraint], ['23514', undefined])

  const server = await startWriter(t, database)
  const outcomes = await Promise.all([
    server.add(project_id, later),
    server.add(project_id, eventOf('even later', { received_at: Date.now() + 42 * day })),
    server.add(project_id, eventOf('today')),
  ])
  assert.ok(outcomes.every((outcome) => outcome.status === 'accepted'))
  assert.equal(await numberOf(database, 'select count(distinct tableoid) from events'), 3)
  assert.deepEqual(await wrongCounts(database), [])
})

test('Batches of several projects are written whole or not at all', async (t) => {
  const { database, project_id, writer } = await open(t)
  const { connection } = writer
  const other = await addProject(database, 'other')
  await database.sql("alter table events add constraint poisoned check (title <> 'poison')")
  const mixed = (title: string) =>
    [
      [project_id, eventOf('one')],
      [other, eventOf(title)],
    ].map(([project, event]) => ({
      ...{ project_id: project as string, lane: '', event: event as Event, bytes: 0, since: 0 },
      ...{ resolve: () => {}, reject: () => {} },
    }))
  await assert.rejects(connection.write(mixed('poison')), { code: '23514' })
  assert.equal(await numberOf(database, 'select count(*) from event_ids'), 0)
  assert.equal((await connection.write(mixed('fine'))).length, 2)
  assert.deepEqual(await wrongCounts(database), [])
})

test('Every text that a payload may hold comes back from the database as it was', async (t) => {
  const { database, project_id, writer } = await open(t)
  const texts = [
    '',
    "'; drop table events; --",
    '\\N',
    '{a,"b"}',
    'ü€🧺',
    '\u0001\u001f\u007f',
    'NULL',
    ' ',
    '\u2028\r\n\t',
  ]
  const events = texts.map((text) =>
    eventOf('t', {
      id: newId(),
      ...{ title: text, culprit: text, message: text, transaction: text, server_name: text, user: text },
      ...{ environment: text, release: text, platform: text, tags: [[`key${text}`, text]] as [string, string][] },
      payload: Buffer.from(JSON.stringify({ text })),
    }),
  )
  await writer.write(project_id, events)
  const rows = await database.sql<Record<string, string>>(
    `select replace(id::text, '-', '') as id, title, culprit, message, transaction, server_name, user_key, environment, release,
            platform, payload ->> 'text' as text from events`,
  )
  assert.equal(rows.length, texts.length)
  for (const [index, event] of events.entries()) {
    const { id, ...row } = rows.find((one) => one.id === event.id)!
    for (const [column, value] of Object.entries(row)) assert.equal(value, texts[index], column)
  }
  const tags = await tagCounts(database)
  assert.deepEqual(
    new Set(tags.map((tag) => `${tag.key}=${tag.value}`)),
    new Set(texts.map((text) => `key${text}=${text}`)),
  )
})
