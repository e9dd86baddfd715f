// The writer alone, its queue kept full with events that were parsed ahead: what the write path costs without the doors.

import { parseConfig } from '../server/config.ts'
import { createContention } from '../server/contention.ts'
import { createPool } from '../server/db/pool.ts'
import { findBlocker, findKnownHashes } from '../server/db/probe.ts'
import type { Event } from '../server/ingest/event.ts'
import { createLog } from '../server/log.ts'
import { type BatchWriter, createWriter } from '../server/write/writer.ts'
import { createCeiling } from './ceiling.ts'
import { cpuOf, startMeter } from './cpu.ts'
import type { Database } from './database.ts'
import { createSamples, eventsFrom, newId } from './events.ts'
import { type Bench, type Context, compare, mustEqual, rounded, type Subject } from './figure.ts'

/** As many as the server has by default. */
const connections = parseConfig({}).writers
/** Enough for every connection's next batch to be there when it is done. */
const waiting = 2000

export const writeBatches: Bench = async (context) => {
  const samples = createSamples(Date.now())
  const ceiling = await createCeiling(context, samples)
  const database = await context.database()
  const subject = await createSubject(context, database)
  const measured = await compare(context, 'events/s', subject, ceiling)
  return { ...measured, connections, event_bytes: samples[0]!.json.length }
}

/** The ceiling of this one is the same writer on a database without the triggers that tell of events and issues. */
export const triggersCost: Bench = async (context) => {
  const told = await createSubject(context, await context.database())
  const silent = await context.database()
  await silent.sql('alter table events disable trigger user; alter table issues disable trigger user')
  const measured = await compare(context, 'events/s', told, await createSubject(context, silent))
  return { ...measured, lost_percent: rounded(100 * (1 - measured.ratio!), 1) }
}

async function createSubject(context: Context, database: Database): Promise<Subject> {
  const writer = await startWriter(context, database)
  const events = eventsFrom(createSamples(Date.now()), Date.now())
  let next = 0
  let stored = 0

  async function keepAdding(end: number): Promise<void> {
    while (performance.now() < end) {
      const received_at = Date.now()
      const event: Event = { ...events[next++ % events.length]!, id: newId(), received_at, timestamp: received_at }
      const outcome = await writer.add(database.first.project_id, event)
      if (outcome.status === 'accepted') stored += 1
    }
  }

  return async (milliseconds) => {
    const before = stored
    const meter = startMeter({ writer: () => cpuOf(process.pid), postgres: database.cpu })
    const start = performance.now()
    await Promise.all(Array.from({ length: waiting }, () => keepAdding(start + milliseconds)))
    const rate = ((stored - before) * 1000) / (performance.now() - start)
    const cpu_us = meter(stored - before)
    const [row] = await database.sql<{ count: string }>('select count(*) from events')
    mustEqual(Number(row!.count), stored, 'events that the writer said it stored')
    return { rate, cpu_us }
  }
}

async function startWriter(context: Context, database: Database): Promise<BatchWriter> {
  const log = createLog('warn')
  const pool = createPool(database.url, log)
  const writer = createWriter({
    databaseUrl: database.url,
    connections,
    grace: 5_000,
    log,
    contention: createContention(),
    findBlocker: (pid) => findBlocker(pool, pid),
    findKnown: (projectId, hashes) => findKnownHashes(pool, projectId, hashes),
  })
  context.after(() => pool.end())
  context.after(() => writer.stop())
  await writer.start()
  return writer
}
