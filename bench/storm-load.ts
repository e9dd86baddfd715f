// The storm: a process that sends events of one project at a fixed rate, answered or not, each in an envelope of its own over
// many connections. What is due while every connection waits for an answer is sent as soon as one is free, and counted.

import type { Socket } from 'node:net'
import { createSamples, newId } from './events.ts'
import { openSocket } from './http-load.ts'

export interface StormOrder {
  port: number
  project_id: string
  public_key: string
  /** Events a second. */
  rate: number
  connections: number
  milliseconds: number
  /** Each event is an issue of its own; else all are one. */
  unique: boolean
}

export interface StormReport {
  offered: number
  accepted: number
  refused: number
  /** Of the refused, those that were not told when to come back. */
  untold: number
  /** The most that were due and had no connection. */
  late: number
  seconds: number
  cpu_us: number
}

interface Connection {
  socket: Socket
}

async function storm(order: StormOrder): Promise<StormReport> {
  const next = requestsOf(order)
  const buffer = Buffer.alloc(64 * 1024)
  const free: Connection[] = []
  const report = { offered: 0, accepted: 0, refused: 0, untold: 0, late: 0 }
  let closing = false

  async function open(): Promise<void> {
    const connection: Partial<Connection> = {}
    const socket = await openSocket(order.port, buffer, (bytes) => {
      // Both answers are short and come in one piece.
      const status = buffer.toString('latin1', 9, 12)
      if (status === '200') report.accepted += 1
      else if (status === '429') {
        report.refused += 1
        const text = buffer.toString('latin1', 0, bytes)
        if (!/\r\nretry-after: [1-9]/.test(text) || !/\r\nx-sentry-rate-limits: [1-9]/.test(text)) report.untold += 1
      } else throw new Error(`the storm was answered ${buffer.toString('latin1', 0, bytes)}`)
      free.push(connection as Connection)
    })
    socket.on('close', () => {
      if (!closing) throw new Error('the server closed a connection of the storm')
    })
    connection.socket = socket
    free.push(connection as Connection)
  }

  for (let at = 0; at < order.connections; at += 100) {
    await Promise.all(Array.from({ length: Math.min(100, order.connections - at) }, open))
  }
  const start = performance.now()
  const cpu = process.cpuUsage()
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const past = Math.min(performance.now() - start, order.milliseconds)
      const due = Math.floor((past / 1000) * order.rate)
      while (report.offered < due && free.length > 0) {
        report.offered += 1
        free.pop()!.socket.write(next())
      }
      report.late = Math.max(report.late, due - report.offered)
      if (past < order.milliseconds) return
      clearInterval(timer)
      resolve()
    }, 2)
  })
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  for (const end = performance.now() + 30_000; report.accepted + report.refused < report.offered; ) {
    if (performance.now() > end) throw new Error('the storm was not answered in 30 s')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  closing = true
  for (const { socket } of free) socket.destroy()
  return { ...report, seconds, cpu_us: Math.round((user + system) / report.offered) }
}

/** A loop's events differ by their ids alone; unique ones also by a number in their fingerprint. */
function requestsOf({ project_id, public_key, unique }: StormOrder): () => Buffer {
  const fixed = '"fingerprint":["storm-000000000"]'
  const samples = createSamples(Date.now()).slice(0, 200)
  const bodies = samples.map(({ json }) => {
    const event = json.toString('latin1')
    return Buffer.from(`{"event_id":"${'0'.repeat(32)}"}\n{"type":"event"}\n{${fixed},${event.slice(1)}\n`, 'latin1')
  })
  const requests = bodies.map((body) =>
    Buffer.concat([
      Buffer.from(
        `POST /api/${project_id}/envelope/ HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${body.length}\r\n` +
          `x-sentry-auth: Sentry sentry_version=7, sentry_client=bench/1, sentry_key=${public_key}\r\n\r\n`,
      ),
      body,
    ]),
  )
  const ids = requests.map((request) => request.indexOf('"event_id":"') + '"event_id":"'.length)
  const numbers = requests.map((request) => request.indexOf('storm-') + 'storm-'.length)
  let at = 0
  return () => {
    const which = at++ % requests.length
    const request = requests[which]!
    request.write(newId(), ids[which]!, 'latin1')
    if (unique) request.write(String(at).padStart(9, '0'), numbers[which]!, 'latin1')
    // A copy: what a full socket has not taken yet must not change.
    return Buffer.from(request)
  }
}

process.once('message', async (order: StormOrder) => {
  const report = await storm(order)
  process.send!(report, () => process.exit(0))
})
