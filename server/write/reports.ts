// Client reports and feedback, written apart from events: whatever is waiting goes into one transaction, and `add` resolves
// when that is committed. Counts are exact: when the answer of a commit is lost, PostgreSQL is asked what became of it
// before anything is written again.

import type pg from 'pg'
import { AppError } from '../errors.ts'
import type { ReportSink } from '../ingest/accept.ts'
import type { Discarded, Feedback } from '../ingest/reports.ts'
import type { Log } from '../log.ts'
import type { Service } from '../service.ts'
import { failureOf } from './failure.ts'

export interface ReportWriter extends ReportSink, Service {}

export interface ReportWriterOptions {
  pool: pg.Pool
  /** Milliseconds that reports wait for a PostgreSQL that is away. */
  grace: number
  log: Log
}

interface Waiting {
  project_id: string
  hour: Date
  discarded: Discarded[]
  feedback: Feedback[]
  since: number
  resolve(): void
  reject(error: unknown): void
}

const maxWaiting = 2_000
const maxBatch = 500
const hour = 3_600_000
/** How often feedback that came before its event looks for it. */
const linkEvery = 1_000

export function createReportWriter({ pool, grace, log }: ReportWriterOptions): ReportWriter {
  let waiting: Waiting[] = []
  let running: Promise<void> | undefined
  let linking: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let stopping = false

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      const batch = waiting.slice(0, maxBatch)
      waiting = waiting.slice(maxBatch)
      await settle(batch)
    }
    // In the same turn as the last look at what waits.
    running = undefined
  }

  /** Never rejects. */
  async function settle(batch: Waiting[]): Promise<void> {
    const transaction: Transaction = { xid: null }
    for (;;) {
      try {
        if (!(await isCommitted(pool, transaction))) await write(pool, batch, transaction)
        for (const one of batch) one.resolve()
        return
      } catch (error) {
        const failure = failureOf(error)
        const mayWait = failure === 'away' || failure === 'blocked' || failure === 'retry'
        if (mayWait && !stopping && performance.now() - batch[0]!.since < grace) await pause(100)
        else if (failure === 'data' && batch.length > 1) {
          const middle = batch.length >> 1
          await settle(batch.slice(0, middle))
          return settle(batch.slice(middle))
        } else {
          if (!mayWait) log.error('reports.failed', { error })
          const reason = mayWait ? unavailable(error) : failure === 'data' ? unprocessable(error) : error
          for (const one of batch) one.reject(reason)
          return
        }
      }
    }
  }

  function link(): void {
    linking ??= pool
      .query(linkFeedback)
      .then(() => {})
      .catch((error) => log.warn('feedback.link_failed', { error }))
      .finally(() => {
        linking = undefined
      })
  }

  return {
    name: 'reports',
    async start() {
      timer = setInterval(link, linkEvery)
    },
    add(projectId, { received_at, discarded, feedback }) {
      if (stopping) return Promise.reject(new AppError('shutting_down', 'This server is stopping.', { retryAfter: 2 }))
      if (waiting.length >= maxWaiting) {
        return Promise.reject(
          new AppError('rate_limited', 'More reports wait than this server can hold: slow down', { retryAfter: 1 }),
        )
      }
      return new Promise<void>((resolve, reject) => {
        const at = new Date(received_at - (received_at % hour))
        const since = performance.now()
        waiting.push({ project_id: projectId, hour: at, discarded, feedback, since, resolve, reject })
        running ??= run()
      })
    },
    async stop() {
      stopping = true
      clearInterval(timer)
      await running
      await linking
    },
  }
}

interface Transaction {
  /** Set before the first row is written. */
  xid: string | null
}

async function isCommitted(pool: pg.Pool, { xid }: Transaction): Promise<boolean> {
  if (xid === null) return false
  const { rows } = await pool.query<{ status: string | null }>('select pg_xact_status($1::xid8) as status', [xid])
  if (rows[0]!.status === 'in progress') throw new Error('PostgreSQL has not noticed yet that the connection is gone')
  return rows[0]!.status === 'committed'
}

async function write(pool: pg.Pool, batch: Waiting[], transaction: Transaction): Promise<void> {
  const client = await pool.connect()
  let broken: boolean | Error = true
  try {
    await client.query("begin; set local lock_timeout = '2s'")
    const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid')
    transaction.xid = rows[0]!.xid
    const counts = countsOf(batch)
    if (counts[0].length > 0) await client.query(addCounts, counts)
    const feedback = batch.flatMap((one) => one.feedback.map((said) => [one.project_id, said] as const))
    if (feedback.length > 0) {
      await client.query(keepFeedback, feedbackColumns(feedback))
      await client.query(linkFeedback)
    }
    await client.query('commit')
    broken = false
  } catch (error) {
    await client.query('rollback').then(
      () => {
        broken = false
      },
      () => {},
    )
    throw error
  } finally {
    client.release(broken)
  }
}

/** Each counter once: a statement may touch a row only once. */
function countsOf(batch: Waiting[]): [string[], Date[], string[], string[], number[]] {
  const sums = new Map<string, [string, Date, string, string, number]>()
  for (const { project_id, hour: at, discarded } of batch) {
    for (const { reason, category, quantity } of discarded) {
      const key = `${project_id} ${at.getTime()} ${reason} ${category}`
      const sum = sums.get(key)
      if (sum) sum[4] += quantity
      else sums.set(key, [project_id, at, reason, category, quantity])
    }
  }
  const rows = [...sums.values()]
  return [
    rows.map((row) => row[0]),
    rows.map((row) => row[1]),
    rows.map((row) => row[2]),
    rows.map((row) => row[3]),
    rows.map((row) => row[4]),
  ]
}

function feedbackColumns(rows: (readonly [string, Feedback])[]): unknown[] {
  const column = (name: keyof Feedback) => rows.map(([, said]) => said[name])
  return [
    rows.map(([projectId]) => projectId),
    column('id'),
    column('event_id'),
    column('name'),
    column('email'),
    column('message'),
    column('url'),
    rows.map(([, said]) => new Date(said.received_at)),
  ]
}

/** In the order of the key, so that two processes never wait for each other. What a deleted project sent is nobody's. */
const addCounts = `
insert into client_reports as t (project_id, hour, reason, category, quantity)
select r.project_id, r.hour, r.reason, r.category, r.quantity
  from unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[]) as r(project_id, hour, reason, category, quantity)
  join projects p on p.id = r.project_id
 order by 1, 2, 3, 4
on conflict (project_id, hour, reason, category) do update set quantity = t.quantity + excluded.quantity`

const keepFeedback = `
insert into user_feedback (project_id, id, event_id, name, email, message, url, received_at)
select r.project_id, r.id, r.event_id, r.name, r.email, r.message, r.url, r.received_at
  from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
    as r(project_id, id, event_id, name, email, message, url, received_at)
  join projects p on p.id = r.project_id
 order by 1, 2
on conflict (project_id, id) do nothing`

/**
 * Gives feedback the issue of its event, for as long as event_ids knows that (72 hours). issue_stats is locked as
 * fold_issue_tags does it, so that none is given to an issue that is being deleted.
 */
const linkFeedback = `
with waiting as (
  select project_id, id, event_id from user_feedback
   where issue_id is null and event_id is not null and received_at > now() - interval '72 hours'
   order by received_at desc limit 1000
), found as materialized (
  select w.project_id, w.id, e.issue_id
    from waiting w
    join event_ids i on i.project_id = w.project_id and i.event_id = w.event_id
    join events e on e.project_id = i.project_id and e.id = i.event_id and e.received_at = i.received_at
), alive as (
  select s.project_id, s.issue_id from issue_stats s
   where (s.project_id, s.issue_id) in (select project_id, issue_id from found)
   order by 1, 2 for key share
)
update user_feedback f set issue_id = n.issue_id
  from found n join alive a on a.project_id = n.project_id and a.issue_id = n.issue_id
 where f.project_id = n.project_id and f.id = n.id and f.issue_id is null`

function unavailable(cause: unknown): AppError {
  return new AppError('unavailable', 'The database cannot take reports just now: send this again', {
    cause,
    retryAfter: 5,
  })
}

function unprocessable(cause: unknown): AppError {
  return new AppError('unprocessable', 'PostgreSQL cannot store this report.', { cause })
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))
