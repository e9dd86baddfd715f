// One connection of the writer: writes a batch in one transaction, connects when it has to.

import pg from 'pg'
import { connectionConfig, hasState } from '../db/pool.ts'
import type { ConnectionWatch } from '../db/watch.ts'
import type { Outcome } from '../ingest/accept.ts'
import { type BoundHashes, createBoundHashes } from './bound.ts'
import { encodeBatch, ingestBatch } from './encode.ts'
import type { Waiting } from './queue.ts'

export interface WriterConnection {
  /** The backend that works for this connection, null while there is none. */
  readonly pid: number | null
  connect(): Promise<void>
  /** All or nothing. Outcomes are in the order of the batch; one project's call follows another's by project id. */
  write(batch: Waiting[]): Promise<Outcome[]>
  ensurePartitions(from: number, to: number): Promise<void>
  end(): Promise<void>
}

export interface ConnectionOptions {
  databaseUrl: string
  applicationName: string
  /** Milliseconds after which a lock that somebody else holds makes the batch fail with 55P03. */
  lockTimeout: number
  /** Gives up a connection that the network swallowed: the batch fails as `away` and is written again. */
  watch?: ConnectionWatch | undefined
  bound?: BoundHashes
}

/** As text: the array of ids is split here, which costs a tenth of the driver's array parser. */
const asText = { getTypeParser: () => (value: string) => value }

export function createWriterConnection(options: ConnectionOptions): WriterConnection {
  let client: pg.Client | null = null
  let pid: number | null = null
  const bound = options.bound ?? createBoundHashes()

  async function connected(): Promise<pg.Client> {
    if (client) return client
    const fresh = new pg.Client({
      ...connectionConfig(options.databaseUrl, options.applicationName),
      lock_timeout: options.lockTimeout,
      // The server ends what takes absurdly long; a server that says nothing at all, not even to `watch`, is given up a
      // little later.
      statement_timeout: 15_000,
      query_timeout: 20_000,
    })
    fresh.on('error', () => forget(fresh))
    fresh.on('end', () => forget(fresh))
    await fresh.connect()
    try {
      await options.watch?.introduce(fresh)
      const { rows } = await fresh.query<{ pid: number }>('select pg_backend_pid() as pid')
      pid = rows[0]!.pid
    } catch (error) {
      void fresh.end().catch(() => {})
      throw error
    }
    client = fresh
    return fresh
  }

  function forget(lost: pg.Client) {
    if (client !== lost) return
    client = null
    pid = null
  }

  /** After an error that PostgreSQL did not send nobody knows what this connection is still waiting for. */
  function abandon() {
    const lost = client
    client = null
    pid = null
    void lost?.end().catch(() => {})
  }

  async function watched<T>(on: pg.Client, work: (on: pg.Client) => Promise<T>): Promise<T> {
    options.watch?.busy(on)
    try {
      return await work(on)
    } finally {
      options.watch?.idle(on)
    }
  }

  async function writeProject(
    on: pg.Client,
    projectId: string,
    batch: Waiting[],
    uncounted: Uncounted,
    written: Hashes,
    known: Known,
  ): Promise<Outcome[]> {
    const events = batch.map((waiting) => waiting.event)
    const values = encodeBatch(projectId, events, {
      uncounted: uncounted.get(projectId),
      isBound: (hash) => known.has(projectId, hash),
    })
    const { rows } = await on.query<{ r_statuses: string; r_issue_ids: string; r_overflow: string }>({
      ...ingestBatch,
      values,
      types: asText,
    })
    const { r_statuses, r_issue_ids, r_overflow } = rows[0]!
    // Those of a batch with overflow are learned from the next one: which were bound is not worth telling apart.
    if (r_overflow === '{}') written.set(projectId, new Set(events.flatMap((event) => event.hashes)))
    const issueIds = r_issue_ids.slice(1, -1).split(',')
    return issueIds.map((id, index) => outcomeFrom(r_statuses[index], id === 'NULL' ? null : id))
  }

  async function writeProjects(
    on: pg.Client,
    batch: Waiting[],
    uncounted: Uncounted,
    written: Hashes,
    known: Known,
  ): Promise<Outcome[]> {
    const byProject = new Map<string, Waiting[]>()
    for (const waiting of batch) {
      const group = byProject.get(waiting.project_id)
      if (group) group.push(waiting)
      else byProject.set(waiting.project_id, [waiting])
    }
    if (byProject.size === 1) return writeProject(on, batch[0]!.project_id, batch, uncounted, written, known)
    const outcomes = new Map<Waiting, Outcome>()
    await on.query('begin')
    try {
      // The same order in every batch, so that two batches never wait for each other.
      for (const [projectId, group] of [...byProject].sort(([a], [b]) => Number(a) - Number(b))) {
        const stored = await writeProject(on, projectId, group, uncounted, written, known)
        for (const [index, outcome] of stored.entries()) outcomes.set(group[index]!, outcome)
      }
      await on.query('commit')
    } catch (error) {
      await on.query('rollback').catch(() => on.end().catch(() => {}))
      throw error
    }
    return batch.map((waiting) => outcomes.get(waiting)!)
  }

  return {
    get pid() {
      return pid
    },
    async connect() {
      await connected()
    },
    async write(batch) {
      const uncounted: Uncounted = new Map()
      let known: Known = bound
      for (;;) {
        try {
          const written: Hashes = new Map()
          const outcomes = await watched(await connected(), (on) => writeProjects(on, batch, uncounted, written, known))
          for (const [projectId, hashes] of written) bound.add(projectId, hashes)
          return outcomes
        } catch (error) {
          if (learnUncounted(error, uncounted)) continue
          // From here on everything is told: while issues are deleted one after the other, each try would miss another hash.
          if (known !== nothing && forgetUnbound(error, bound)) {
            known = nothing
            continue
          }
          if (!hasState(error)) abandon()
          throw error
        }
      }
    },
    async ensurePartitions(from, to) {
      const on = await connected()
      const day = "(to_timestamp($1::float8 / 1000) at time zone 'UTC')::date"
      await on.query(`select ensure_event_partitions(${day}, ${day.replace('$1', '$2')})`, [from, to])
    },
    async end() {
      const ending = client
      client = null
      pid = null
      await ending?.end().catch(() => {})
    },
  }
}

/** By project: numbers of the events of a batch that are not stored, repeats mostly, whose tags must not be counted. */
type Uncounted = Map<string, number[]>

/** By project: hashes that are bound once the transaction is committed. */
type Hashes = Map<string, Set<string>>

/** What of a batch need not be told. */
type Known = Pick<BoundHashes, 'has'>
const nothing: Known = { has: () => false }

/** True when PostgreSQL said which hashes are not bound (any more): the batch is written again with what they are of. */
function forgetUnbound(error: unknown, bound: BoundHashes): boolean {
  const { code, detail } = error as { code?: unknown; detail?: unknown }
  if (code !== 'MS004' || typeof detail !== 'string') return false
  const [projectId = '', hashes = ''] = detail.replaceAll('-', '').split(':')
  bound.forget(projectId, hashes.split(','))
  return true
}

/** True when PostgreSQL said which they are, and it was not known: the batch is written again without their tags. */
function learnUncounted(error: unknown, uncounted: Uncounted): boolean {
  const { code, detail } = error as { code?: unknown; detail?: unknown }
  if (code !== 'MS003' || typeof detail !== 'string') return false
  const [projectId = '', numbers = ''] = detail.split(':')
  const before = uncounted.get(projectId)?.join(',') ?? ''
  uncounted.set(projectId, numbers === '' ? [] : numbers.split(',').map(Number))
  return numbers !== before
}

function outcomeFrom(status: string | undefined, issueId: string | null): Outcome {
  if (status === 'd') return { status: 'dropped', reason: 'discarded', issue_id: issueId }
  return { status: 'accepted', issue_id: issueId ?? '' }
}
