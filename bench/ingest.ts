// The four doors, each from its socket to the commit: load generator (this process), server and PostgreSQL share the machine.
// One dashboard is subscribed. After every round the events in the database are counted against the answers.

import { createCeiling } from './ceiling.ts'
import { cpuOf, startMeter } from './cpu.ts'
import { openDashboards } from './dashboards.ts'
import { createSamples, idOffset, newId, type Sample, sizes } from './events.ts'
import type { Context } from './figure.ts'
import { type Bench, compare, mustEqual, quantile, rounded, type Subject } from './figure.ts'
import { createFrameReader, openWebSocket, textFrame, textFrameHead } from './frames.ts'
import { openLoad } from './http-load.ts'
import { type RunningServer, startServer } from './server.ts'

const connections = 512
const bulkEvents = 100
const sockets = 16
/** Events that one socket has under way. */
const socketWindow = 64
const accepting = '{"status":"accepted"'

type Door = (context: Context, server: RunningServer, samples: Sample[]) => Promise<Run>
/** Returns how many events were accepted. */
type Run = (milliseconds: number) => Promise<{ events: number; seconds: number; latencies?: Float64Array }>

function bench(door: Door, parameters: Record<string, unknown>, bytes: number = sizes.small): Bench {
  return async (context) => {
    const samples = createSamples(Date.now(), bytes)
    const ceiling = await createCeiling(context, samples)
    const database = await context.database({ migrated: false })
    const server = await startServer(context, database)
    const run = await door(context, server, samples)
    await openDashboards(context, {
      url: `ws://127.0.0.1:${server.port}/stream/projects/${server.project_id}`,
      headers: { authorization: `Bearer ${server.token}` },
      sockets: 1,
    })
    let accepted = 0
    let best = 0
    let latencies: Float64Array | undefined
    const subject: Subject = async (milliseconds) => {
      const meter = startMeter({
        load: () => cpuOf(process.pid),
        server: () => cpuOf(server.pid),
        postgres: database.cpu,
      })
      const result = await run(milliseconds)
      const cpu_us = meter(result.events)
      accepted += result.events
      const [row] = await database.sql<{ count: string }>('select count(*) from events')
      mustEqual(Number(row!.count), accepted, 'events that were accepted')
      const rate = result.events / result.seconds
      if (rate > best) [best, latencies] = [rate, result.latencies]
      return { rate, cpu_us }
    }
    const measured = await compare(context, 'events/s', subject, ceiling)
    const times = latencies && {
      reply_p50_ms: rounded(quantile(latencies, 0.5), 1),
      reply_p99_ms: rounded(quantile(latencies, 0.99), 1),
    }
    return { ...measured, ...times, ...parameters, event_bytes: samples[0]!.json.length }
  }
}

const envelopeDoor: Door = async (context, server, samples) => {
  const digits = '0'.repeat(32)
  const length = samples[0]!.json.length
  const before = `{"event_id":"${digits}","sent_at":"${new Date().toISOString()}","sdk":{"name":"sentry.javascript.node","version":"11.12.0"}}\n{"type":"event","length":${length}}\n`
  const head = headOf(`/api/${server.project_id}/envelope/`, before.length + length + 1, {
    'content-type': 'application/x-sentry-envelope',
    'x-sentry-auth': `Sentry sentry_version=7, sentry_client=bench/1, sentry_key=${server.public_key}`,
  })
  const requests = samples.map(({ json }) => Buffer.concat([Buffer.from(head + before), json, Buffer.from('\n')]))
  const first = head.length + idOffset
  return overHttp(context, server, 200, 1, cycle(requests, [first, head.length + before.length + idOffset], 1))
}

const eventsDoor: Door = async (context, server, samples) => {
  const head = headOf('/api/v1/events', samples[0]!.json.length, { authorization: `Bearer ${server.public_key}` })
  const requests = samples.map(({ json }) => Buffer.concat([Buffer.from(head), json]))
  return overHttp(context, server, 202, 1, cycle(requests, [head.length + idOffset], 1))
}

const bulkDoor: Door = async (context, server, samples) => {
  const length = samples[0]!.json.length
  const head = headOf('/api/v1/events/bulk', 1 + bulkEvents * (length + 1), {
    authorization: `Bearer ${server.public_key}`,
  })
  const requests = Array.from({ length: samples.length / bulkEvents }, (_, n) => {
    const events = samples.slice(n * bulkEvents, (n + 1) * bulkEvents).map(({ json }) => json.toString('latin1'))
    return Buffer.from(`${head}[${events.join(',')}]`, 'latin1')
  })
  const offsets = Array.from({ length: bulkEvents }, (_, n) => head.length + 1 + n * (length + 1) + idOffset)
  return overHttp(context, server, 202, bulkEvents, cycle(requests, offsets, bulkEvents))
}

const socketDoor: Door = async (context, server, samples) => {
  const frames = samples.map(({ json }) => textFrame(json))
  const next = cycle(frames, [textFrameHead + idOffset], 1)
  let accepted = 0
  let outstanding = 0
  let end = 0
  let failure: Error | undefined
  let done = () => {}
  const opened = await Promise.all(
    Array.from({ length: sockets }, async () => {
      const read = createFrameReader((_opcode, chunk, from, to) => {
        outstanding -= 1
        if (chunk.toString('latin1', from, from + accepting.length) !== accepting)
          failure ??= new Error(`answered ${chunk.toString('latin1', from, to)}`)
        accepted += 1
        if (performance.now() < end && !failure) send()
        else if (outstanding === 0 || failure) done()
      })
      const headers = { authorization: `Bearer ${server.public_key}` }
      const url = `ws://127.0.0.1:${server.port}/ingest`
      const socket = await openWebSocket(url, headers, Buffer.alloc(64 * 1024), read)
      function send() {
        outstanding += 1
        socket.write(Buffer.from(next()))
      }
      socket.on('close', () => {
        failure ??= new Error('the server closed a socket')
        done()
      })
      context.after(async () => void socket.removeAllListeners('close').destroy())
      return send
    }),
  )
  return async (milliseconds) => {
    accepted = 0
    const start = performance.now()
    end = start + milliseconds
    const finished = new Promise<void>((resolve) => {
      done = resolve
    })
    for (const send of opened) for (let n = 0; n < socketWindow; n++) send()
    await finished
    if (failure) throw failure
    return { events: accepted, seconds: (performance.now() - start) / 1000 }
  }
}

async function overHttp(
  context: Context,
  server: RunningServer,
  status: number,
  events: number,
  next: () => Buffer,
): Promise<Run> {
  const load = await openLoad({ port: server.port, connections: events > 1 ? 8 : connections, status, next })
  context.after(async () => load.close())
  return async (milliseconds) => {
    const { replies, seconds, latencies } = await load.run(milliseconds)
    return { events: replies * events, seconds, latencies }
  }
}

/** The requests one after the other, each time with new ids. A buffer is sent before its turn comes again. */
function cycle(buffers: Buffer[], offsets: number[], idsEach: number): () => Buffer {
  let at = 0
  return () => {
    const buffer = buffers[at++ % buffers.length]!
    const id = newId()
    for (const offset of offsets) buffer.write(idsEach === 1 ? id : newId(), offset, 'latin1')
    return buffer
  }
}

function headOf(path: string, length: number, headers: Record<string, string>): string {
  const lines = Object.entries({ host: '127.0.0.1', 'content-length': String(length), ...headers })
  return `POST ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
}

export const ingestEnvelope = bench(envelopeDoor, { connections })
export const ingestEnvelope12k = bench(envelopeDoor, { connections }, sizes.large)
export const ingestEvents = bench(eventsDoor, { connections })
export const ingestBulk = bench(bulkDoor, { connections: 8, bulk_events: bulkEvents })
export const ingestWebsocket = bench(socketDoor, { sockets, window: socketWindow })
