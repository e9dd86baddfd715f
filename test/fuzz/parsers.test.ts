// A slice of the fuzzing for every run of the tests; `npm run fuzz` goes on. SEED=<number> repeats one.

import { test } from 'node:test'
import { createRandom } from '../support/random.ts'
import { fuzz } from './cases.ts'
import { parserTargets } from './parsers.ts'

const { seed } = createRandom()

for (const [name, target] of Object.entries(parserTargets)) {
  test(`${name} gives a value that keeps its promises, or a refusal, whatever it is given`, async (t) => {
    t.diagnostic(`SEED=${seed}`)
    // A list is gone through from another place each time.
    await fuzz(name, target, { seed, cases: 1_000, from: name === 'damaged' ? (seed * 1_000) % 1_000_000 : 0 })
  })
}
