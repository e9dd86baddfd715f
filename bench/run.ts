// `npm run bench` runs every figure, `npm run bench -- ingest` (or `ingest.bulk`) some. One line of JSON each on standard
// output. With `--smoke` each runs for about a second at a tiny size: it fails when something breaks or is lost, never
// because something is slow.

import { execFileSync } from 'node:child_process'
import { cpus } from 'node:os'
import { createLog } from '../server/log.ts'
import { type Databases, startPostgres } from './database.ts'
import { fanout } from './fanout.ts'
import type { Bench, Context } from './figure.ts'
import { footprintNode, footprintPostgres, startFresh, startUsed } from './footprint.ts'
import { ingestBulk, ingestEnvelope, ingestEnvelope12k, ingestEvents, ingestWebsocket } from './ingest.ts'
import { join1000, reconnect1000 } from './join.ts'
import { latencyIdle, latencyLoaded } from './latency.ts'
import { memorySocket } from './memory.ts'
import { groupEvents, parseEvents } from './parse.ts'
import { stormLoop, stormUnique } from './storm.ts'
import { triggersCost, writeBatches } from './write.ts'

const benches: Record<string, Bench> = {
  'ingest.envelope': ingestEnvelope,
  'ingest.envelope_12k': ingestEnvelope12k,
  'ingest.events': ingestEvents,
  'ingest.bulk': ingestBulk,
  'ingest.websocket': ingestWebsocket,
  'fanout.100': fanout(100),
  'fanout.1000': fanout(1_000),
  'fanout.10000': fanout(10_000),
  'write.batches': writeBatches,
  'latency.idle': latencyIdle,
  'latency.loaded': latencyLoaded,
  'memory.socket': memorySocket,
  'join.1000': join1000,
  'reconnect.1000': reconnect1000,
  'triggers.cost': triggersCost,
  'parse.event_1k5': parseEvents('small'),
  'parse.event_12k': parseEvents('large'),
  'parse.event_12k_scrubbed': parseEvents('scrubbed'),
  'parse.grouping': groupEvents,
  'start.fresh': startFresh,
  'start.used': startUsed,
  'footprint.node': footprintNode,
  'footprint.postgres': footprintPostgres,
  'storm.loop': stormLoop,
  'storm.unique': stormUnique,
}

async function main(): Promise<void> {
  const args = process.argv.slice(2)
  const smoke = args.includes('--smoke')
  const wanted = args.filter((arg) => arg !== '--smoke')
  const names = Object.keys(benches).filter(
    (name) => wanted.length === 0 || wanted.some((want) => name === want || name.startsWith(`${want}.`)),
  )
  if (names.length === 0) throw new Error(`no such figure; there are ${Object.keys(benches).join(', ')}`)
  const postgres = await startPostgres(createLog('warn'))
  try {
    for (const name of names) {
      const measured = await measure(benches[name]!, postgres, smoke)
      console.log(
        JSON.stringify({
          bench: name,
          ...measured,
          commit: commit(),
          machine: `${machine()}, PostgreSQL ${postgres.version}`,
        }),
      )
    }
  } finally {
    await postgres.stop()
  }
}

async function measure(bench: Bench, postgres: Databases, smoke: boolean) {
  const undos: (() => Promise<unknown> | undefined)[] = []
  const context: Context = {
    async database(options) {
      const database = await postgres.create(options)
      undos.push(database.drop)
      return database
    },
    after: (undo) => void undos.push(undo),
    rounds: smoke ? 1 : 4,
    roundMs: smoke ? 500 : 2_500,
    stormMs: Number(process.env.STORM_SECONDS ?? 120) * 1_000,
    smoke,
  }
  try {
    return await bench(context)
  } finally {
    for (const undo of undos.reverse()) await undo()
  }
}

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8', stdio: 'pipe' }).trim()
  } catch {
    return 'unknown'
  }
}

const machine = () => `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}`

await main()
