// One notification to n dashboards: the product's path against bare app.publish of the same texts in the same bursts, one
// after the other in the same process. The sockets' other ends are in this process.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { openDashboards } from './dashboards.ts'
import type { Order, Report } from './fanout-server.ts'
import { type Bench, type Context, compare, mustEqual, rounded, type Subject } from './figure.ts'
import { ended } from './server.ts'

type Of<I extends Report['is']> = Extract<Report, { is: I }>

export function fanout(size: number): Bench {
  return async (context) => {
    const sockets = context.smoke ? Math.min(size, 200) : size
    const child = await startChild(context)
    const ready = child.ready
    const cpu = { relay: Number.POSITIVE_INFINITY, bare: Number.POSITIVE_INFINITY }

    const subject =
      (mode: 'relay' | 'bare'): Subject =>
      async (milliseconds) => {
        const url =
          mode === 'relay'
            ? `ws://127.0.0.1:${ready.relayPort}/stream/projects/1?sample=false`
            : `ws://127.0.0.1:${ready.barePort}/`
        const dashboards = await openDashboards(context, { url, headers: { authorization: 'Bearer x' }, sockets })
        dashboards.reset()
        const tell = setInterval(() => child.order({ do: 'received', frames: dashboards.received() }), 1)
        try {
          const done = await child.run({ do: 'run', mode, sockets, milliseconds })
          const { least, most } = dashboards.spread()
          mustEqual(least, done.frames / sockets, 'frames of the socket that got least')
          mustEqual(most, done.frames / sockets, 'frames of the socket that got most')
          cpu[mode] = Math.min(cpu[mode], (done.cpuSeconds * 1e6) / done.frames)
          return {
            rate: done.frames / done.seconds,
            cpu_us: { server: rounded((done.cpuSeconds * 1e6) / done.frames, 3) },
          }
        } finally {
          clearInterval(tell)
          dashboards.close()
        }
      }

    const measured = await compare(context, 'deliveries/s', subject('relay'), subject('bare'))
    return {
      ...measured,
      sockets,
      burst: ready.burst,
      frame_bytes: ready.frameBytes,
      server_cpu_us: rounded(cpu.relay, 3),
      ceiling_server_cpu_us: rounded(cpu.bare, 3),
    }
  }
}

async function startChild(context: Context) {
  const child = fork(new URL('fanout-server.ts', import.meta.url), { execArgv: ['--import', 'tsx'] })
  context.after(() => ended(child))
  const gone = new Promise<never>((_, reject) => {
    child.once('exit', (code) => reject(new Error(`the server of the fan-out ended with ${code}`)))
  })
  gone.catch(() => {})
  const next = () => Promise.race([once(child, 'message').then(([message]) => message as Report), gone])
  return {
    ready: (await next()) as Of<'ready'>,
    order: (order: Order) => void child.send(order),
    async run(order: Order) {
      const done = next()
      child.send(order)
      return (await done) as Of<'done'>
    },
  }
}
