// `npm run soak -- --minutes 60 --rate 300`: rounds of the oracle, one after the other on the same servers, until the time
// is over or one fails. Every 30 seconds a line of JSON says what the servers hold, so that growth can be seen; each round
// adds one with what happened in it.
//   --seed N      the same run again, as far as threads allow
//   --round N     seconds of a round (60)
//   --quiet       no faults: for figures of a server that lives long
//   --small-disk  the database on a disk of memory, which is filled now and then (root on Linux)
//   --fault NAME  only this one; may be repeated

import { readdir, readFile, readlink } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { createRandom } from '../support/random.ts'
import { createScope } from '../support/scope.ts'
import { createOracle, type Oracle } from './oracle.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    rate: { type: 'string', default: '300' },
    round: { type: 'string', default: '60' },
    servers: { type: 'string', default: '3' },
    clients: { type: 'string', default: '36' },
    seed: { type: 'string' },
    quiet: { type: 'boolean', default: false },
    'small-disk': { type: 'boolean', default: false },
    fault: { type: 'string', multiple: true },
  },
})
const number = (name: 'minutes' | 'rate' | 'round' | 'servers' | 'clients') => {
  const value = Number(values[name])
  if (!(value > 0)) throw new Error(`--${name} is a number above 0`)
  return value
}

interface Held {
  rss_mb: number
  handles: number
  sockets: number
}

/** Null where there is no /proc, or no such process any more. */
async function held(pid: number | undefined): Promise<Held | null> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    const handles = await readdir(`/proc/${pid}/fd`)
    const links = await Promise.all(handles.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')))
    return {
      rss_mb: Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024),
      handles: handles.length,
      sockets: links.filter((link) => link.startsWith('socket:')).length,
    }
  } catch {
    return null
  }
}

async function main(): Promise<void> {
  const seed = values.seed === undefined ? createRandom().seed : Number(values.seed)
  const end = performance.now() + number('minutes') * 60_000
  const scope = createScope()
  process.once('SIGINT', () => scope.end().then(() => process.exit(1)))
  let done = 0
  let rounds = 0

  async function figures(oracle: Oracle) {
    const servers = await Promise.all(
      oracle.fleet.slots.map(async ({ process: { child } }) => ({ pid: child.pid, ...(await held(child.pid)) })),
    )
    const [database] = await oracle.world.database.sql<{ mb: number }>(
      'select (pg_database_size(current_database()) / 1048576)::int as mb',
    )
    const line = { seconds: Math.round(performance.now() / 1000), rounds, events: done + oracle.sent(), servers }
    console.log(JSON.stringify({ ...line, database_mb: database!.mb }))
  }

  try {
    console.log(JSON.stringify({ seed, ...values }))
    const oracle = await createOracle(scope, {
      seed,
      servers: number('servers'),
      clients: number('clients'),
      rate: number('rate'),
      fsync: true,
      smallDisk: values['small-disk'],
      faultEvery: 1_500,
      faults: values.quiet ? [] : values.fault,
    })
    const timer = setInterval(() => figures(oracle).catch((error) => console.error(error)), 30_000)
    scope.after(() => clearInterval(timer))
    while (performance.now() < end) {
      const summary = await oracle.round(number('round') * 1000)
      rounds += 1
      done += summary.events
      console.log(JSON.stringify({ round: rounds, ...summary }))
    }
    await figures(oracle)
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  } finally {
    await scope.end()
  }
}

await main()
process.exit()
