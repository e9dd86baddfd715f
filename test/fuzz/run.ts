// `npm run fuzz -- --cases 1000000`: the fuzzing of test/fuzz/*.test.ts for as long as one likes, in rounds, all on one server
// in this process. Each round ends with the question whether the server is well; its memory must not grow from round to
// round. A line of JSON a round.
//   --seed N     the same run again
//   --only NAME  one target; may be repeated
//   --from N     the first case: one case alone with --cases 1
//   --slice K/N  the Kth of N parts of --cases, for machines that have minutes and not hours
//   --only damaged   goes through every damage of every fixture, once, when --cases is left out

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createLog } from '../../server/log.ts'
import { createCluster } from '../../server/postgres/cluster.ts'
import { startApp } from '../support/app.ts'
import { createTemplate } from '../support/database.ts'
import { createRandom } from '../support/random.ts'
import { createScope } from '../support/scope.ts'
import { fuzz, fuzzTogether } from './cases.ts'
import { createDamages } from './damaged.ts'
import { parserTargets } from './parsers.ts'
import { openWire, type Wire } from './wire.ts'

const { values } = parseArgs({
  options: {
    cases: { type: 'string' },
    slice: { type: 'string', default: '1/1' },
    seed: { type: 'string', default: String(createRandom().seed) },
    only: { type: 'string', multiple: true },
    from: { type: 'string', default: '0' },
  },
})
const [part, parts] = values.slice.split('/').map(Number) as [number, number | undefined]
const isExhaustive = values.only?.join() === 'damaged'
const whole = Number(values.cases ?? (isExhaustive ? createDamages().count : 1_000_000))
const cases = Math.ceil(whole / (parts ?? Number.NaN))
// Every target counts its own cases, and none needs more of them than the slice has.
const first = Number(values.from) + (part - 1) * cases
const seed = Number(values.seed)

/** Of a hundred cases. */
const shares: Record<string, number> = {
  parseEvent: 11,
  damaged: 3,
  parseEnvelope: 14,
  parseJson: 6,
  elementsFrom: 5,
  createBodyDecoder: 4,
  decodeStoreBody: 4,
  publicKeyFrom: 3,
  parseNotification: 5,
  parseCursor: 2,
  clientMessage: 4,
  filters: 2,
  doors: 11,
  damagedDoors: 1,
  ingest: 10,
  stream: 4,
  streamQueries: 3,
  api: 3,
  heads: 2,
  frames: 1,
  notifications: 2,
}

const mebibytes = (bytes: number) => Math.round((bytes / 1024 / 1024) * 10) / 10

/** Milliseconds of the slowest case of each parser, so that an input which costs too much is seen. */
async function round(wire: Wire, names: string[], from: number, most: number): Promise<[ran: number, slowest: string]> {
  const total = names.reduce((sum, name) => sum + shares[name]!, 0)
  let ran = 0
  let slowest = { name: '', ms: 0 }
  for (const name of names) {
    const slice = { seed, from, cases: Math.min(Math.ceil((most * shares[name]!) / total), most - ran) }
    const parser = parserTargets[name]
    if (parser) {
      const ms = await fuzz(name, parser, slice)
      if (ms > slowest.ms) slowest = { name, ms }
    } else {
      await fuzzTogether(name, wire.targets[name]!, slice)
      // At once: the next target may delete what this one stored.
      await wire.assertWell()
    }
    ran += slice.cases
  }
  return [ran, `${slowest.name} ${Math.round(slowest.ms)} ms`]
}

/** Garbage aside: what the process holds. */
function heap(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

/** From the first quarter of the rounds, in which caches fill, to the last. */
function assertFlat(heaps: number[]): void {
  const quarter = Math.floor(heaps.length / 4)
  if (quarter < 2) return
  const [before, after] = [Math.max(...heaps.slice(0, quarter)), Math.min(...heaps.slice(-quarter))]
  if (after > before + 16 * 1024 * 1024)
    throw new Error(`memory grew from ${mebibytes(before)} to ${mebibytes(after)} MiB`)
}

async function main(): Promise<void> {
  const names = values.only ?? Object.keys(shares)
  const unknown = names.filter((name) => !(name in shares))
  const isPart = parts !== undefined && part >= 1 && part <= parts && Number.isInteger(part)
  if (unknown.length > 0 || !(cases > 0 && first >= 0 && Number.isInteger(seed)) || !isPart) {
    throw new Error(
      `--only knows ${Object.keys(shares).join(', ')}; --cases, --from and --seed are numbers, --slice is 1/20`,
    )
  }
  const scope = createScope()
  const dataDir = await mkdtemp(join(tmpdir(), 'mesher-fuzz-'))
  scope.after(() => rm(dataDir, { recursive: true, force: true }))
  const settings = { fsync: 'off', full_page_writes: 'off' }
  const cluster = createCluster({ dataDir, log: createLog('warn'), settings })
  try {
    scope.after(() => cluster.stop())
    const { databaseUrl } = await cluster.start()
    process.env.TEST_DATABASE_URL = databaseUrl
    process.env.TEST_TEMPLATE = await createTemplate(databaseUrl)
    const server = await startApp(scope)
    const wire = await openWire(scope, server)
    console.log(JSON.stringify({ seed, cases, from: first, slice: values.slice }))
    const heaps: number[] = []
    // At least twenty rounds, so that growth can be told from noise.
    const size = Math.max(1, Math.min(25_000, Math.ceil(cases / 20)))
    // Every target counts its own cases from --from on, and none needs more than a round's worth a round.
    for (let done = 0, from = first; done < cases; from += size) {
      const start = performance.now()
      const [ran, slowest] = await round(wire, names, from, Math.min(size, cases - done))
      done += ran
      heaps.push(heap())
      const memory = { heap_mb: mebibytes(heaps.at(-1)!), rss_mb: mebibytes(process.memoryUsage().rss) }
      const seconds = Math.round((performance.now() - start) / 100) / 10
      console.log(JSON.stringify({ cases: done, ...memory, slowest, seconds }))
      await server.database.sql('truncate issues, event_ids')
    }
    assertFlat(heaps)
    console.log(JSON.stringify({ passed: cases, seed, slice: values.slice }))
  } finally {
    await scope.end()
  }
}

try {
  await main()
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
process.exit()
