// From the commit of an event to its frame on a dashboard. Probes are written in plain SQL by this process, which also has the
// dashboards, so both times are of one clock: the first is taken when COMMIT is sent (so the commit's own fsync counts),
// the second when the frame is read. `after_answer` counts from when PostgreSQL has answered that it is committed.

import pg from 'pg'
import { openDashboards } from './dashboards.ts'
import { createSamples, idOffset, newId } from './events.ts'
import { type Bench, mustEqual, quantile, rounded } from './figure.ts'
import { startServer } from './server.ts'

interface Load {
  dashboards: number
  /** Events a second that come in through the envelope door meanwhile. */
  events: number
  probes: number
  /** Milliseconds from one probe to the next. */
  every: number
}

const marker = Buffer.from('"title":"probe-')
const digits = 6

function bench(load: Load): Bench {
  return async (context) => {
    const { dashboards, events, every } = load
    const probes = context.smoke ? 10 : load.probes
    const database = await context.database({ migrated: false })
    const server = await startServer(context, database)
    const arrivals: [probe: number, at: number][] = []
    await openDashboards(context, {
      url: `ws://127.0.0.1:${server.port}/stream/projects/${server.project_id}?sample=false`,
      headers: { authorization: `Bearer ${server.token}` },
      sockets: dashboards,
      onFrame(chunk, from, to) {
        const at = chunk.subarray(from, to).indexOf(marker)
        if (at < 0) return
        const number = from + at + marker.length
        arrivals.push([Number(chunk.toString('latin1', number, number + digits)), performance.now()])
      },
    })
    const stop = events > 0 ? sendSteadily(server, events) : async () => 0
    const client = new pg.Client({ connectionString: database.url })
    await client.connect()
    context.after(() => client.end())

    const sent: number[] = []
    const answered: number[] = []
    for (let n = 0; n < probes; n++) {
      await client.query('begin')
      await client.query(
        `insert into events (project_id, issue_id, id, title, environment) values ($1, 1, $2, $3, 'production')`,
        [server.project_id, newId(), `probe-${String(n).padStart(digits, '0')}`],
      )
      sent.push(performance.now())
      await client.query('commit')
      answered.push(performance.now())
      await pause(every * (0.5 + Math.random()))
    }
    for (let waited = 0; arrivals.length < probes * dashboards && waited < 10_000; waited += 10) await pause(10)
    const loaded = await stop()
    mustEqual(arrivals.length, probes * dashboards, 'probes that arrived')

    const times = sorted(arrivals.map(([probe, at]) => at - sent[probe]!))
    const after = sorted(arrivals.map(([probe, at]) => at - answered[probe]!))
    return {
      value: rounded(quantile(times, 0.99), 2),
      unit: 'ms',
      p50: rounded(quantile(times, 0.5), 2),
      p99: rounded(quantile(times, 0.99), 2),
      most: rounded(times.at(-1)!, 2),
      after_answer_p50: rounded(quantile(after, 0.5), 2),
      after_answer_p99: rounded(quantile(after, 0.99), 2),
      commit_p50: rounded(quantile(sorted(answered.map((at, n) => at - sent[n]!)), 0.5), 2),
      probes,
      dashboards,
      events_per_second: loaded,
    }
  }
}

/** An open loop: events are due when they are due, however late the answers are. Returns the rate that was accepted. */
function sendSteadily(server: { url: string; project_id: string; public_key: string }, rate: number) {
  const samples = createSamples(Date.now())
  const start = performance.now()
  const answers: Promise<void>[] = []
  const send = async () => {
    const { json } = samples[answers.length % samples.length]!
    json.write(newId(), idOffset, 'latin1')
    const body = Buffer.concat([Buffer.from(`{}\n{"type":"event","length":${json.length}}\n`), json])
    const query = `sentry_key=${server.public_key}`
    const response = await fetch(`${server.url}/api/${server.project_id}/envelope/?${query}`, { method: 'POST', body })
    await response.arrayBuffer()
    mustEqual(response.status, 200, 'status of an event of the load')
  }
  const timer = setInterval(() => {
    while (answers.length < ((performance.now() - start) / 1000) * rate) answers.push(send())
  }, 2)
  return async () => {
    clearInterval(timer)
    await Promise.all(answers)
    return Math.round((answers.length * 1000) / (performance.now() - start))
  }
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))
const sorted = (values: number[]) => values.toSorted((a, b) => a - b)

export const latencyIdle = bench({ dashboards: 1, events: 0, probes: 200, every: 20 })
export const latencyLoaded = bench({ dashboards: 200, events: 200, probes: 150, every: 60 })
