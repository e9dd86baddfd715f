import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tagCounts, wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { startProcess } from '../support/process.ts'
import { createRandom } from '../support/random.ts'
import { startSenders } from '../support/senders.ts'

const kills = 20

test('A server that is killed twenty times under load loses no acknowledged event and counts none twice', async (t) => {
  const database = await createDatabase(t)
  const first = await firstStart(database)
  const random = createRandom()
  const start = () => startProcess(t, { DATABASE_URL: database.url })
  let server = start()
  const senders = startSenders(await server.url, first, random)
  for (let kill = 0; kill < kills; kill++) {
    // The next one starts meanwhile, so that the load never rests long.
    const next = start()
    const url = await next.url
    const enough = senders.acknowledged.size + 1 + random.below(60)
    await eventually(() => assert.equal(senders.acknowledged.size >= enough, true, `no answers, seed ${random.seed}`))
    server.child.kill('SIGKILL')
    senders.aim(url)
    assert.equal((await server.exit).signal, 'SIGKILL')
    server = next
  }
  await senders.finish()

  const rows = await database.sql<{ id: string; times: string }>(
    "select replace(id::text, '-', '') as id, count(*) as times from events group by 1",
  )
  const stored = new Set(rows.map((row) => row.id))
  assert.deepEqual(
    [...senders.acknowledged].filter((id) => !stored.has(id)),
    [],
    `acknowledged and not stored, seed ${random.seed}`,
  )
  assert.deepEqual(
    rows.filter((row) => row.times !== '1'),
    [],
    `stored twice, seed ${random.seed}`,
  )
  assert.equal(stored.size, senders.sent.size, `seed ${random.seed}`)
  assert.deepEqual(senders.wrong, [])
  assert.deepEqual(await wrongCounts(database), [], `seed ${random.seed}`)
  await eventually(async () => {
    const tags = (await tagCounts(database)).filter((tag) => tag.key === 'door')
    assert.deepEqual(
      tags.map((tag) => tag.value),
      ['bulk', 'envelope', 'ingest'],
    )
    assert.equal(
      tags.reduce((sum, tag) => sum + tag.events, 0),
      stored.size,
    )
  })
})
