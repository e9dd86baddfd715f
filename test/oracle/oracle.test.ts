import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRandom } from '../support/random.ts'
import { createScope } from '../support/scope.ts'
import { createOracle } from './oracle.ts'

test('Whatever fails under load, each acknowledged event is stored once and every subscriber ends up with what SELECT says', async (t) => {
  const scope = createScope()
  t.after(scope.end)
  const { seed } = createRandom()
  t.diagnostic(`seed ${seed}: SEED=${seed} npm test -- test/oracle/oracle.test.ts`)
  const oracle = await createOracle(scope, {
    seed,
    servers: 3,
    clients: 24,
    rate: 100,
    fsync: false,
    smallDisk: true,
    faultEvery: 300,
  })
  const summary = await oracle.round(15_000)
  t.diagnostic(JSON.stringify(summary))
  assert.ok(summary.events > 200, `only ${summary.events} events, seed ${seed}`)
})
