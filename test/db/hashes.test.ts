import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import type { Event } from '../../server/ingest/event.ts'
import { eventOf, openWriter, wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart, type TestDatabase } from '../support/database.ts'
import { createRandom } from '../support/random.ts'

async function open(t: TestContext) {
  const database = await createDatabase(t)
  const { project_id } = await firstStart(database)
  return { database, project_id, writer: openWriter(t, database) }
}

const hashOf = (name: string) => createHash('md5').update(name).digest('hex')

/** `[app, system]` as grouping makes them; one name is a list of one. */
const listed = (...names: string[]): Event =>
  eventOf(names.join(' '), {
    hashes: names.map(hashOf),
    components: names.map((name) => JSON.stringify([name])),
  })

const bindings = async (database: TestDatabase) =>
  Object.fromEntries(
    (
      await database.sql<{ name: string; issue_id: string }>(
        'select components ->> 0 as name, issue_id from issue_hashes order by 1',
      )
    ).map(({ name, issue_id }) => [name, issue_id]),
  )

test('An event belongs to the issue of the first of its hashes that is known, and its other hash is bound to that one', async (t) => {
  const { database, project_id, writer } = await open(t)
  const ids = (await writer.write(project_id, [listed('a', 's')])).map(({ issue_id }) => issue_id)
  const [a] = ids
  const later = await writer.write(project_id, [listed('b', 's'), listed('c', 'd'), listed('b', 'd'), listed('d')])
  const [b, c, bd, d] = later.map(({ issue_id }) => issue_id)
  assert.equal(b, a, 'the second is known')
  assert.notEqual(c, a)
  assert.equal(bd, a, 'the first decides where both are known')
  assert.equal(d, c)
  assert.deepEqual(await bindings(database), { a, s: a, b: a, c, d: c })
  assert.equal((await writer.write(project_id, [listed('a', 'new')]))[0]!.issue_id, a)
  assert.equal((await bindings(database)).new, a, 'the hash of a known issue’s event is bound later, too')
  assert.deepEqual(await wrongCounts(database), [])
})

test('Lists of one batch find each other in the order of its events, as if they had come one by one', async (t) => {
  const random = createRandom()
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
  const lists = Array.from({ length: 40 }, () => listed(...random.shuffled(names).slice(0, 1 + random.below(2))))
  const whole = await open(t)
  const single = await open(t)
  const together = await whole.writer.write(whole.project_id, lists)
  const apart = []
  for (const event of lists) apart.push(...(await single.writer.write(single.project_id, [event])))
  const shapes = [together, apart].map((outcomes) => {
    const numbers = new Map<string | null, number>()
    return outcomes.map(({ issue_id }) => {
      if (!numbers.has(issue_id)) numbers.set(issue_id, numbers.size)
      return numbers.get(issue_id)
    })
  })
  assert.deepEqual(shapes[0], shapes[1], `seed ${random.seed}`)
  assert.deepEqual(await wrongCounts(whole.database), [])
})

test('Writers that bring lists with a hash in common at the same time make one issue', async (t) => {
  const { database, project_id } = await open(t)
  const random = createRandom()
  const writers = Array.from({ length: 6 }, () => openWriter(t, database))
  for (let wave = 0; wave < 8; wave++) {
    const outcomes = await Promise.all(
      writers.map(({ write }, n) =>
        write(
          project_id,
          random.shuffled(
            Array.from({ length: 20 }, (_, k) => listed(`${wave} ${n} ${k}`, `shared ${wave} ${k % 10}`)),
          ),
        ),
      ),
    )
    assert.equal(new Set(outcomes.flat().map(({ issue_id }) => issue_id)).size, 10, `seed ${random.seed}`)
  }
  assert.deepEqual(await wrongCounts(database), [])
})

test('A hash that was known, and whose issue was deleted since, makes a new issue with all that it is of', async (t) => {
  const { database, project_id, writer } = await open(t)
  const [before] = await writer.write(project_id, [listed('a', 's')])
  await database.sql('delete from issues')
  assert.deepEqual(await bindings(database), {})
  const [after] = await writer.write(project_id, [listed('a', 's')])
  assert.notEqual(after!.issue_id, before!.issue_id)
  assert.deepEqual(await bindings(database), { a: after!.issue_id, s: after!.issue_id })
})

test('A batch that leaves out what a new hash is of is told which, and writes nothing', async (t) => {
  const { database, project_id } = await open(t)
  const call = `select * from ingest_batch(${project_id}, p_ids => array[gen_random_uuid()], p_hashes => array['${hashOf('a')}']::uuid[],
    p_groups => array[1], p_received_at => array[now()], p_timestamps => array[now()], p_levels => array['error'],
    p_environments => array[null], p_releases => array[null], p_platforms => array['node'], p_titles => array['t'],
    p_culprits => array[null], p_messages => array[null], p_transactions => array[null], p_server_names => array[null],
    p_users => array[null], p_payloads => array['{}']::json[], p_tag_keys => array[]::text[], p_tag_values => array[]::text[],
    p_tag_groups => array[]::integer[], p_tag_pairs => array[]::integer[], p_tag_counts => array[]::integer[]`
  const failure = await database.sql(`${call}, p_components => array[null]::json[])`).catch((error) => error)
  assert.deepEqual([failure.code, failure.detail.replaceAll('-', '')], ['MS004', `${project_id}:${hashOf('a')}`])
  assert.deepEqual(await database.sql('select from event_ids'), [])
  await database.sql(`${call})`)
  assert.deepEqual(await database.sql('select algo, components from issue_hashes'), [{ algo: null, components: null }])
})
