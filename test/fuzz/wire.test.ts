// A slice of the fuzzing over sockets for every run of the tests; `npm run fuzz` goes on. SEED=<number> repeats one.

import { test } from 'node:test'
import { startApp } from '../support/app.ts'
import { createRandom } from '../support/random.ts'
import { fuzzTogether } from './cases.ts'
import { openWire } from './wire.ts'

const { seed } = createRandom()
const cases: Record<string, number> = {
  doors: 1_200,
  damagedDoors: 500,
  ingest: 1_200,
  stream: 600,
  streamQueries: 500,
  api: 600,
  heads: 600,
  frames: 300,
  notifications: 600,
}

test(`Thousands of malformed requests, frames and notifications are each answered as they should be, and harm nobody`, async (t) => {
  const server = await startApp(t)
  const wire = await openWire(t, server)
  for (const [name, targets] of Object.entries(wire.targets)) {
    await t.test(name, async (t) => {
      t.diagnostic(`SEED=${seed}`)
      await fuzzTogether(name, targets, { seed, cases: cases[name]! })
      await wire.assertWell()
    })
  }
})
