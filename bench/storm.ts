// One project's storm beside another project's quiet work. A second process sends 10,000 events a second of the storming
// project through the envelope door, answered or not; this one sends 25 events a second of the quiet project, and commits 10
// a second by SQL, whose frames on a dashboard it times. First without the storm, then in it: the ratios are the figure.
// Afterwards every count in the database is compared with the answers.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { openDashboards, until } from './dashboards.ts'
import type { Database } from './database.ts'
import { createSamples, idOffset, newId } from './events.ts'
import { type Bench, type Context, mustEqual, quantile, rounded } from './figure.ts'
import { openLoad } from './http-load.ts'
import { type RunningServer, startServer } from './server.ts'
import type { StormOrder, StormReport } from './storm-load.ts'

const rate = 10_000
const connections = 5_000
/** Milliseconds from one event of the quiet project to the next. */
const everyEvent = 40
const everyCommit = 100

interface Quiet {
  /** For so long; times in milliseconds, sorted. */
  measure(milliseconds: number): Promise<{ ingest: number[]; frame: number[] }>
  events(): number
}

function bench(unique: boolean): Bench {
  return async (context) => {
    const milliseconds = context.smoke ? 1_000 : context.stormMs
    const database = await context.database({ migrated: false })
    const server = await startServer(context, database)
    const stream = await watchStorm(context, server)
    const quiet = await openQuiet(context, server, database)
    const storm = (milliseconds: number) =>
      sendStorm(context, {
        port: server.port,
        project_id: server.project_id,
        public_key: server.public_key,
        rate: context.smoke ? 500 : rate,
        connections: context.smoke ? 50 : connections,
        milliseconds,
        unique,
      })
    // So that both phases run on code that is compiled.
    const warmUp = await storm(milliseconds / 20)
    await quiet.measure(milliseconds / 20)
    const before = await quiet.measure(Math.min(milliseconds, 30_000))
    const memory = watchMemory(context, server.pid)
    const [report, during] = await Promise.all([storm(milliseconds), quiet.measure(milliseconds)])
    const peak = memory()
    mustEqual(report.untold, 0, 'answers 429 that do not say when to come back')
    const accepted = warmUp.accepted + report.accepted
    await checkCounts(database, server.project_id, accepted)
    await stream.check(database, accepted)
    const [row] = await database.sql<{ n: string }>('select count(*) as n from events where project_id <> $1', [
      server.project_id,
    ])
    mustEqual(Number(row!.n), quiet.events(), 'events of the quiet project')

    const p99 = (times: number[]) => rounded(quantile(times, 0.99), 2)
    const p50 = (times: number[]) => rounded(quantile(times, 0.5), 2)
    return {
      value: rounded(quantile(during.ingest, 0.99) / quantile(before.ingest, 0.99), 2),
      unit: 'x the quiet p99 of ingest',
      frame_ratio: rounded(quantile(during.frame, 0.99) / quantile(before.frame, 0.99), 2),
      quiet_ingest_p50_ms: p50(before.ingest),
      quiet_ingest_p99_ms: p99(before.ingest),
      storm_ingest_p50_ms: p50(during.ingest),
      storm_ingest_p99_ms: p99(during.ingest),
      quiet_frame_p50_ms: p50(before.frame),
      quiet_frame_p99_ms: p99(before.frame),
      storm_frame_p50_ms: p50(during.frame),
      storm_frame_p99_ms: p99(during.frame),
      offered_per_second: Math.round(report.offered / report.seconds),
      accepted_per_second: Math.round(report.accepted / report.seconds),
      ...report,
      seconds: rounded(report.seconds, 1),
      rss_before_mb: peak.before,
      rss_peak_mb: peak.most,
      ...stream.seen(),
    }
  }
}

/** Counted exactly, wherever they are kept. */
async function checkCounts(database: Database, projectId: string, accepted: number): Promise<void> {
  const counts = {
    events: 'select count(*) as n from events where project_id = $1',
    issue_stats: 'select sum(event_count) as n from issue_stats where project_id = $1',
    issue_hourly: 'select sum(event_count) as n from issue_hourly where project_id = $1',
    project_hourly: 'select sum(event_count) as n from project_hourly where project_id = $1',
  }
  for (const [table, text] of Object.entries(counts)) {
    const [row] = await database.sql<{ n: string }>(text, [projectId])
    mustEqual(Number(row!.n), accepted, `accepted events of the storm in ${table}`)
  }
}

/** A dashboard of the storming project: it is shown samples of the events, and every issue. */
async function watchStorm(context: Context, server: RunningServer) {
  const seen = { events: 0, created: 0, hidden: 0, gaps: 0, unresolved: 0 }
  await openDashboards(context, {
    url: `ws://127.0.0.1:${server.port}/stream/projects/${server.project_id}`,
    headers: { authorization: `Bearer ${server.token}` },
    sockets: 1,
    onFrame(chunk, from, to) {
      const head = chunk.toString('latin1', from, Math.min(to, from + 24))
      if (head.startsWith('{"type":"event"')) seen.events += 1
      else if (head.startsWith('{"type":"mark"')) return
      else {
        const message = JSON.parse(chunk.toString('utf8', from, to))
        if (message.type === 'rate') seen.hidden += message.events - message.shown
        if (message.type === 'issue' && message.action === 'created') seen.created += 1
        if (message.type === 'issue_count') seen.unresolved = message.count
        if (message.type === 'gap' || message.type === 'resync') seen.gaps += 1
      }
    },
  })
  return {
    seen: () => ({ shown: seen.events, issues_shown: seen.created }),
    async check(database: Database, accepted: number) {
      const [row] = await database.sql<{ n: string }>('select count(*) as n from issues where project_id = $1', [
        server.project_id,
      ])
      const issues = Number(row!.n)
      await until(
        () => seen.gaps > 0 || (seen.events + seen.hidden >= accepted && seen.unresolved >= issues),
        10_000,
        'the dashboard of the storm was told of everything',
      )
      mustEqual(seen.gaps, 0, 'gaps of the dashboard of the storm')
      mustEqual(seen.created, issues, 'issues that the dashboard was told of')
      mustEqual(seen.unresolved, issues, 'the last count that it was told')
      mustEqual(seen.events + seen.hidden, accepted, 'events that it was shown or told of')
    },
  }
}

async function openQuiet(context: Context, server: RunningServer, database: Database): Promise<Quiet> {
  const public_key = newId()
  const [project] = await database.sql<{ id: string }>(
    `insert into projects (organization_id, slug, name) select id, 'quiet', 'Quiet' from organizations limit 1 returning id`,
  )
  const project_id = project!.id
  await database.sql('insert into project_keys (public_key, project_id) values ($1, $2)', [public_key, project_id])
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  context.after(() => client.end())

  const marker = Buffer.from('"title":"probe-')
  const sent = new Map<number, number>()
  const frames: number[] = []
  await openDashboards(context, {
    url: `ws://127.0.0.1:${server.port}/stream/projects/${project_id}?sample=false`,
    headers: { authorization: `Bearer ${server.token}` },
    sockets: 1,
    onFrame(chunk, from, to) {
      const at = chunk.subarray(from, to).indexOf(marker)
      if (at < 0) return
      const start = from + at + marker.length
      frames.push(performance.now() - sent.get(Number(chunk.toString('latin1', start, start + 6)))!)
    },
  })
  const samples = createSamples(Date.now())
  let events = 0
  let committed = 0
  const loads = await Promise.all(
    Array.from({ length: 4 }, () =>
      openLoad({ port: server.port, connections: 1, status: 200, next: () => requestOf(samples[events++ % 50]!.json) }),
    ),
  )
  context.after(async () => {
    for (const load of loads) load.close()
  })

  function requestOf(json: Buffer): Buffer {
    json.write(newId(), idOffset, 'latin1')
    const body = `{}\n{"type":"event"}\n${json.toString('latin1')}\n`
    const head = `POST /api/${project_id}/envelope/?sentry_key=${public_key} HTTP/1.1\r\nhost: 127.0.0.1\r\n`
    return Buffer.from(`${head}content-length: ${body.length}\r\n\r\n${body}`, 'latin1')
  }

  async function commit(): Promise<void> {
    const number = committed++
    const title = `probe-${String(number).padStart(6, '0')}`
    await client.query('begin')
    await client.query('insert into events (project_id, issue_id, id, title) values ($1, 1, $2, $3)', [
      project_id,
      newId(),
      title,
    ])
    sent.set(number, performance.now())
    await client.query('commit')
  }

  /** Until the end, one after the other on each of a few lanes, so that a slow answer delays what follows only there. */
  async function every(interval: number, end: number, lanes: number, work: (lane: number) => Promise<void>) {
    const run = async (lane: number) => {
      await pause(interval * lane)
      while (performance.now() < end) {
        const due = performance.now() + interval * lanes
        await work(lane)
        await pause(Math.max(1, due - performance.now()))
      }
    }
    await Promise.all(Array.from({ length: lanes }, (_, lane) => run(lane)))
  }

  return {
    events: () => events + committed,
    async measure(milliseconds) {
      const end = performance.now() + milliseconds
      const ingest: number[] = []
      const first = committed
      frames.length = 0
      await Promise.all([
        every(everyEvent, end, loads.length, async (lane) => {
          const { latencies } = await loads[lane]!.run(0)
          ingest.push(latencies[0]!)
        }),
        every(everyCommit, end, 1, commit),
      ])
      await until(() => frames.length >= committed - first, 10_000, 'every probe was on the dashboard')
      return { ingest: sorted(ingest), frame: sorted(frames) }
    },
  }
}

async function sendStorm(context: Context, order: StormOrder): Promise<StormReport> {
  const child = fork(new URL('storm-load.ts', import.meta.url), { execArgv: ['--import', 'tsx'] })
  context.after(async () => void child.kill())
  const gone = once(child, 'exit').then(([code]): never => {
    throw new Error(`the storm ended with ${code}`)
  })
  gone.catch(() => {})
  child.send(order)
  const [report] = await Promise.race([once(child, 'message'), gone])
  return report as StormReport
}

/** Resident memory of the server, in MB, until the returned function is called. */
function watchMemory(context: Context, pid: number) {
  const read = () => {
    try {
      return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024)
    } catch {
      return Number.NaN
    }
  }
  const before = read()
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, read())
  }, 100)
  context.after(async () => clearInterval(timer))
  return () => ({ before, most })
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))
const sorted = (values: number[]) => values.toSorted((a, b) => a - b)

export const stormLoop = bench(false)
export const stormUnique = bench(true)
