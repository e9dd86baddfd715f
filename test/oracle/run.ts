// `npm run oracle`: 90 seconds of the oracle with a fresh seed, as CI runs it, on a small disk without fsync.
// `npm run soak -- --minutes 60 --rate 300`: on and on, with fsync, and one server that no fault ends, so that growth can
// be seen: every 30 seconds a line of JSON says what the servers and the database hold.
//   --seconds N, --minutes N  how long
//   --seed N      the same run again, as far as threads allow
//   --round N     seconds of a round: at its end everything is checked, and what was checked is emptied
//   --rate N      events a second
//   --quiet       no faults
//   --small-disk  the database on a disk of memory, which is filled now and then (root on Linux)
//   --fault NAME  only this one; may be repeated

import { parseArgs } from 'node:util'
import { createRandom } from '../support/random.ts'
import { createScope } from '../support/scope.ts'
import { figuresOf } from './figures.ts'
import { createOracle } from './oracle.ts'

const kinds = {
  oracle: {
    ...{ seconds: 90, round: 30, rate: 100, servers: 3, clients: 24, faultEvery: 300, handEvery: 200 },
    ...{ fsync: false, smallDisk: true, spare: false },
  },
  // Longer than anybody wants to wait for a fault to be over, so that most of the time events flow.
  soak: {
    ...{ seconds: 600, round: 120, rate: 300, servers: 2, clients: 16, faultEvery: 30_000, handEvery: 2_000 },
    ...{ fsync: true, smallDisk: false, spare: true },
  },
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string' },
    minutes: { type: 'string' },
    rate: { type: 'string' },
    round: { type: 'string' },
    servers: { type: 'string' },
    clients: { type: 'string' },
    seed: { type: 'string' },
    quiet: { type: 'boolean', default: false },
    'small-disk': { type: 'boolean', default: false },
    fault: { type: 'string', multiple: true },
  },
})
const kind = kinds[positionals[0] === 'soak' ? 'soak' : 'oracle']

function number(name: 'seconds' | 'minutes' | 'rate' | 'round' | 'servers' | 'clients' | 'seed', otherwise: number) {
  const value = Number(values[name] ?? otherwise)
  if (!(value > 0)) throw new Error(`--${name} is a number above 0`)
  return value
}

const say = (line: object) => console.log(JSON.stringify(line))

async function main(): Promise<void> {
  const seed = number('seed', createRandom().seed)
  const seconds = number('minutes', number('seconds', kind.seconds) / 60) * 60
  const scope = createScope()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => scope.end().then(() => process.exit(1)))
  }
  let events = 0
  try {
    say({ seed, seconds, again: `npm run ${positionals[0]} -- --seed ${seed}` })
    const oracle = await createOracle(scope, {
      ...kind,
      seed,
      servers: number('servers', kind.servers),
      clients: number('clients', kind.clients),
      rate: number('rate', kind.rate),
      smallDisk: kind.smallDisk || values['small-disk'],
      faults: values.quiet ? [] : values.fault,
    })
    if (kind.smallDisk && !oracle.world.disk) say({ left_out: 'disk full: a small disk takes Linux and root' })
    const began = performance.now()
    const passed = () => Math.round((performance.now() - began) / 1000)
    const figures = async () => say({ seconds: passed(), events: events + oracle.sent(), ...(await figuresOf(oracle)) })
    if (kind === kinds.soak) {
      await figures()
      const timer = setInterval(() => figures().catch((error) => console.error(error)), 30_000)
      scope.after(() => clearInterval(timer))
    }
    for (let round = 1; passed() < seconds; round++) {
      // A last round of a few seconds would show nothing.
      const length = Math.max(10, Math.min(number('round', kind.round), seconds - passed()))
      const summary = await oracle.round(length * 1000)
      events += summary.events
      say({ round, seconds: passed(), ...summary, ...(kind === kinds.soak ? await figuresOf(oracle) : {}) })
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  } finally {
    await scope.end()
  }
}

await main()
process.exit()
