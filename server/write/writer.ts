// Gathers accepted events into batches and commits them; `add` resolves on commit, so that an answer means stored.
//
// Idle, an event is written at once. While other batches are under way, a batch waits up to 5 ms for company or until it
// is full: at 1,000 events/s the window halves the CPU for 4 ms of latency. A batch holds at most 500 events: a tenth more
// throughput than with 250, and batches of 1,000 collapse under overload. What goes wrong is sorted by failure.ts:
//   away      events stay queued while PostgreSQL restarts, for at most `grace`; then they are refused as unavailable
//   blocked   the batch is split by project; what needs a lock that somebody holds waits apart (blocked.ts), while all
//             others go on
//   data      the batch is halved until the culprit is alone; only it is refused
// A commit whose answer was lost is written again: event ids make that harmless.

import type { Contention } from '../contention.ts'
import type { ConnectionWatch } from '../db/watch.ts'
import { AppError } from '../errors.ts'
import type { Outcome, Writer } from '../ingest/accept.ts'
import type { Log } from '../log.ts'
import type { Service } from '../service.ts'
import { type Blocker, type BlockingSession, createBlocked, settle } from './blocked.ts'
import { createBoundHashes } from './bound.ts'
import { createWriterConnection, type WriterConnection } from './connection.ts'
import { failureOf } from './failure.ts'
import { createQueue, type Waiting } from './queue.ts'
import { createShares } from './shares.ts'

export interface WriterState {
  /** Events that wait. */
  queued: number
  queued_bytes: number
  /** Milliseconds since PostgreSQL was last there, 0 when it is. */
  away_ms: number
  blocked: Blocker[]
}

export interface BatchWriter extends Writer, Service {
  state(): WriterState
}

export interface WriterOptions {
  databaseUrl: string
  connections: number
  /** Milliseconds that events wait for a PostgreSQL that is away. */
  grace: number
  watch?: ConnectionWatch
  log: Log
  contention: Contention
  /** Who holds up the backend `pid`. */
  findBlocker(pid: number): Promise<BlockingSession | null>
  /** Those of these fingerprint hashes that belong to issues. */
  findKnown(projectId: string, hashes: string[]): Promise<Set<string>>
  onBatch?(events: number, seconds: number): void
  limits?: Partial<typeof defaults>
}

const defaults = {
  batchEvents: 500,
  batchBytes: 2 * 1024 * 1024,
  window: 5,
  queueEvents: 20_000,
  queueBytes: 128 * 1024 * 1024,
  projectShare: 0.5,
  crowd: 50,
  crowdBatch: 200,
  /** Events of a project that may wait while others send, too: its senders are told early to slow down. */
  crowdMost: 2_000,
  lockTimeout: 1_000,
  /** How long events of a blocked project wait for the lock. */
  blockedGrace: 25_000,
}

interface Slot {
  connection: WriterConnection
  busy: boolean
}

export function createWriter(options: WriterOptions): BatchWriter {
  const { log, contention } = options
  const limits = { ...defaults, ...options.limits }
  const bound = createBoundHashes()
  const queue = createQueue({ events: limits.queueEvents, bytes: limits.queueBytes, projectShare: limits.projectShare })
  const slots: Slot[] = Array.from({ length: options.connections }, (_, index) => ({
    connection: connection(`mesher writer ${index + 1}`, limits.lockTimeout),
    busy: false,
  }))
  const shares = createShares(queue, options.connections, limits)
  const blockedConnection = connection('mesher writer blocked', 2 * limits.lockTimeout)
  const blocked = createBlocked({
    queue,
    connection: blockedConnection,
    batchEvents: limits.batchEvents,
    batchBytes: limits.batchBytes,
    findBlocker: options.findBlocker,
    findKnown: options.findKnown,
    beforeAttempt: sweep,
    async onOtherFailure(batch, error) {
      await handleFailure(blockedConnection, batch, error, 1)
      if (failureOf(error) === 'away') await pause(100)
    },
    onReleased: schedule,
    log,
  })
  let windowTimer: NodeJS.Timeout | undefined
  let immediate: NodeJS.Immediate | undefined
  let awaySince: number | null = null
  let probing = false
  let sweeper: NodeJS.Timeout | undefined
  let stopping = false
  let stopped: Promise<void> | undefined
  const idleWaiters: (() => void)[] = []

  function connection(applicationName: string, lockTimeout: number) {
    const { databaseUrl, watch } = options
    return createWriterConnection({ databaseUrl, applicationName, lockTimeout, watch, bound })
  }

  const now = () => performance.now()

  function schedule() {
    if (queue.ready === 0 || awaySince !== null) return wakeIfIdle()
    if (!slots.some((slot) => !slot.busy)) return
    const alone = slots.every((slot) => !slot.busy)
    if (alone || shares.crowded || stopping || queue.ready >= limits.batchEvents || queue.bytes >= limits.batchBytes) {
      // At the end of this turn of the event loop, so that what arrived together is written together.
      immediate ??= setImmediate(flush)
    } else {
      windowTimer ??= setTimeout(flush, limits.window)
    }
  }

  function flush() {
    clearTimeout(windowTimer)
    clearImmediate(immediate)
    windowTimer = undefined
    immediate = undefined
    const slot = slots.find((one) => !one.busy)
    if (!slot || awaySince !== null) return
    const share = shares.next(contention.holds(now()) && !stopping)
    if (share.batch.length === 0) return
    slot.busy = true
    writeBatch(slot.connection, share.batch).finally(() => {
      slot.busy = false
      shares.done(share)
      schedule()
    })
    schedule()
  }

  /** Never rejects: every event of the batch is settled, or back in the queue. */
  async function writeBatch(on: WriterConnection, batch: Waiting[], attempt = 1): Promise<void> {
    const started = now()
    try {
      const outcomes = await on.write(batch)
      cameBack()
      options.onBatch?.(batch.length, (now() - started) / 1000)
      settle(batch, outcomes)
    } catch (error) {
      await handleFailure(on, batch, error, attempt)
    }
  }

  async function handleFailure(on: WriterConnection, batch: Waiting[], error: unknown, attempt: number): Promise<void> {
    // A deadlock or a deleted issue is over at the second try; what is not over at the tenth is a fault of ours.
    const failure = attempt < 10 ? failureOf(error) : 'unknown'
    if (failure === 'away') {
      queue.putBack(batch)
      return wentAway(error)
    }
    if (failure === 'retry') return writeBatch(on, batch, attempt + 1)
    if (failure === 'blocked') return splitByProject(on, batch)
    if (failure === 'no_partition') {
      const days = batch.map((waiting) => waiting.event.received_at)
      try {
        await on.ensurePartitions(Math.min(...days), Math.max(...days))
      } catch (error) {
        return handleFailure(on, batch, error, attempt + 1)
      }
      return writeBatch(on, batch, attempt + 1)
    }
    if (failure === 'no_project') return refuseProject(on, batch)
    if (failure === 'data' && batch.length > 1) {
      const middle = batch.length >> 1
      await writeBatch(on, batch.slice(0, middle))
      return writeBatch(on, batch.slice(middle))
    }
    if (failure === 'data') {
      log.warn('write.refused', { project_id: batch[0]!.project_id, error })
      return batch[0]!.reject(new AppError('unprocessable', `PostgreSQL cannot store this event: ${messageOf(error)}`))
    }
    log.error('write.failed', { events: batch.length, error })
    for (const waiting of batch)
      waiting.reject(new AppError('internal', 'The event could not be stored', { cause: error }))
  }

  function groups(batch: Waiting[]): [string, Waiting[]][] {
    const found = new Map<string, Waiting[]>()
    for (const waiting of batch) {
      const group = found.get(waiting.project_id) ?? []
      group.push(waiting)
      found.set(waiting.project_id, group)
    }
    return [...found]
  }

  async function splitByProject(on: WriterConnection, batch: Waiting[]): Promise<void> {
    const parts = groups(batch)
    if (parts.length === 1) return blocked.hold(parts[0]![0], batch)
    for (const [, part] of parts) await writeBatch(on, part)
  }

  async function refuseProject(on: WriterConnection, batch: Waiting[]): Promise<void> {
    const parts = groups(batch)
    if (parts.length > 1) {
      for (const [, part] of parts) await writeBatch(on, part)
      return
    }
    for (const waiting of batch) waiting.reject(new AppError('forbidden', 'The project of this key does not exist'))
  }

  function wentAway(error: unknown) {
    if (awaySince === null) {
      awaySince = now()
      log.warn('write.database_away', { error: messageOf(error) })
    }
    if (!probing) {
      probing = true
      probe().finally(() => {
        probing = false
        schedule()
      })
    }
  }

  function cameBack() {
    if (awaySince === null) return
    log.info('write.database_back', { away_ms: Math.round(now() - awaySince) })
    awaySince = null
  }

  /** Until PostgreSQL takes a batch again: first soon, then every half second. */
  async function probe(): Promise<void> {
    for (let wait = 20; awaySince !== null; wait = Math.min(wait * 2, 500)) {
      await pause(wait)
      if (stopping && queue.size === 0) return
      const slot = slots.find((one) => !one.busy)
      if (slot) await tryBatch(slot)
    }
  }

  /** One that lets us in may take no writes: a full disk, a full queue of notifications. */
  async function tryBatch(slot: Slot): Promise<void> {
    slot.busy = true
    try {
      await slot.connection.connect()
      const batch = queue.take(limits.batchEvents, limits.batchBytes)
      if (batch.length === 0) cameBack()
      else await writeBatch(slot.connection, batch)
    } catch {
      // Not yet.
    } finally {
      slot.busy = false
    }
  }

  /** What has waited too long is refused; runs a few times a second while anything waits. */
  function sweep() {
    if (queue.size === 0) return
    const since = awaySince === null ? Number.NEGATIVE_INFINITY : now() - options.grace
    for (const waiting of queue.expired(since, now() - limits.blockedGrace)) waiting.reject(unavailable())
    wakeIfIdle()
  }

  function wakeIfIdle() {
    if (queue.size > 0 || slots.some((slot) => slot.busy)) return
    for (const resolve of idleWaiters.splice(0)) resolve()
  }

  function refusal(projectId: string, lane: string, bytes: number): AppError | null {
    if (stopping)
      return new AppError('shutting_down', 'This server is stopping: send the event again', { retryAfter: 2 })
    if (awaySince !== null && now() - awaySince > options.grace) return unavailable()
    // What waits for a lock, or for PostgreSQL, does not wait for its turn.
    const isCrowd = lane === projectId && awaySince === null && contention.holds(now())
    const most = isCrowd ? limits.crowdMost : undefined
    if (!queue.isFull(lane, bytes, most)) return null
    return new AppError('rate_limited', 'More events wait than this server can hold: slow down', { retryAfter: 1 })
  }

  const unavailable = () =>
    new AppError('unavailable', 'The database cannot take events just now: send this one again', { retryAfter: 5 })

  return {
    name: 'writer',
    async start() {
      await Promise.all(slots.map((slot) => slot.connection.connect()))
      sweeper = setInterval(sweep, 200)
    },
    refusal: (projectId) => refusal(projectId, projectId, 0),
    add(projectId, event) {
      contention.seen(projectId, now())
      const bytes = event.payload.length + 500
      const lane = blocked.laneOf(projectId, event.hashes[0]!)
      const refused = refusal(projectId, lane, bytes)
      if (refused) return Promise.reject(refused)
      return new Promise<Outcome>((resolve, reject) => {
        queue.push({ project_id: projectId, lane, event, bytes, since: now(), resolve, reject })
        schedule()
      })
    },
    state() {
      return {
        queued: queue.size,
        queued_bytes: queue.bytes,
        away_ms: awaySince === null ? 0 : Math.round(now() - awaySince),
        blocked: blocked.state(),
      }
    },
    stop() {
      stopped ??= (async () => {
        stopping = true
        const idle = new Promise<void>((resolve) => idleWaiters.push(resolve))
        schedule()
        wakeIfIdle()
        // Who still waits when the database does not come back is refused: nothing was promised yet.
        const giveUp = setTimeout(() => {
          for (const waiting of queue.expired(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY))
            waiting.reject(unavailable())
          wakeIfIdle()
        }, 1_000)
        await idle
        await blocked.idle()
        clearTimeout(giveUp)
        clearInterval(sweeper)
        awaySince = null
        await Promise.all([...slots.map((slot) => slot.connection.end()), blockedConnection.end()])
      })()
      return stopped
    },
  }
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))
