// Projects that somebody's lock holds up: a person's open transaction on an issue or on its project's counter. What needs
// the lock (new issues, regressions) waits in a lane of its own and is tried again and again on a connection of its own;
// events of issues that exist need no lock that people take, and go on as always.

import type { Outcome } from '../ingest/accept.ts'
import type { Log } from '../log.ts'
import type { WriterConnection } from './connection.ts'
import { failureOf } from './failure.ts'
import type { Queue, Waiting } from './queue.ts'

export interface BlockingSession {
  pid: number | null
  role: string | null
  application: string | null
  state: string | null
  query: string | null
}

export interface Blocker extends BlockingSession {
  project_id: string
  /** Milliseconds since the project was first held up. */
  for_ms: number
}

export interface Blocked {
  /** Puts events that could not be written for a lock aside, and begins to try them again. */
  hold(projectId: string, batch: Waiting[]): void
  /** The lane for a new event. */
  laneOf(projectId: string, hash: string): string
  state(): Blocker[]
  /** Resolves when nothing is held any more. */
  idle(): Promise<void>
}

export interface BlockedOptions {
  queue: Queue
  /** Its lock_timeout is how long one attempt waits. */
  connection: WriterConnection
  batchEvents: number
  batchBytes: number
  /** Who holds up the backend `pid`. */
  findBlocker(pid: number): Promise<BlockingSession | null>
  /** Those of these fingerprint hashes that belong to issues. */
  findKnown(projectId: string, hashes: string[]): Promise<Set<string>>
  /** Before each attempt: refuses what has waited too long. During one, events are not in the queue. */
  beforeAttempt(): void
  /** What failed for another reason than a lock is the writer's business; never rejects. */
  onOtherFailure(batch: Waiting[], error: unknown): Promise<void>
  onReleased(): void
  log: Log
}

interface Held {
  since: number
  lane: string
  blocker: BlockingSession | null
  /** Hashes of issues that exist, so that their events pass. */
  known: Set<string>
  /** Hashes of existing issues that need the lock all the same: they are resolved, and the event reopens them. */
  stuck: Set<string>
}

const lookAfter = 100

export function createBlocked(options: BlockedOptions): Blocked {
  const { queue, connection, log } = options
  const held = new Map<string, Held>()
  let serving: Promise<void> | undefined

  function hold(projectId: string, batch: Waiting[]) {
    let entry = held.get(projectId)
    if (!entry) {
      entry = { since: performance.now(), lane: `${projectId} held`, blocker: null, known: new Set(), stuck: new Set() }
      held.set(projectId, entry)
      queue.block(entry.lane)
    }
    for (const waiting of batch) {
      const hash = waiting.event.hashes[0]!
      if (entry.known.delete(hash)) entry.stuck.add(hash)
      waiting.lane = entry.lane
    }
    queue.putBack(batch)
    // What already waits may need the lock too: looked at there, instead of failing batch by batch.
    queue.move(projectId, entry.lane)
    serving ??= serve().finally(() => {
      serving = undefined
      options.onReleased()
    })
  }

  async function serve(): Promise<void> {
    while (held.size > 0) {
      for (const [projectId, entry] of [...held]) {
        options.beforeAttempt()
        if (await attempt(projectId, entry)) release(projectId, entry)
      }
    }
  }

  function release(projectId: string, entry: Held) {
    held.delete(projectId)
    queue.unblock(entry.lane)
    log.info('write.unblocked', { project_id: projectId, for_ms: Math.round(performance.now() - entry.since) })
    options.onReleased()
  }

  /** True when the lock is gone, or nobody waits for it any more. */
  async function attempt(projectId: string, entry: Held): Promise<boolean> {
    // All of the lane: what may pass must not stand behind what may not.
    const lane = queue.takeBlocked(entry.lane, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
    if (lane.length === 0) return true
    const waits = await writeKnown(projectId, entry, lane)
    if (waits === null) return false
    if (waits.length === 0) return queue.count(entry.lane) === 0
    queue.putBack(waits.slice(options.batchEvents))
    return writeHeld(projectId, entry, waits.slice(0, options.batchEvents))
  }

  /** Events of issues that exist. Returns the others; null when it failed and all are back in the queue. */
  async function writeKnown(projectId: string, entry: Held, batch: Waiting[]): Promise<Waiting[] | null> {
    const hashes = [...new Set(batch.map((waiting) => waiting.event.hashes[0]!))]
    try {
      for (const hash of await options.findKnown(projectId, hashes)) if (!entry.stuck.has(hash)) entry.known.add(hash)
    } catch (error) {
      await options.onOtherFailure(batch, error)
      return null
    }
    const passing = batch.filter((waiting) => entry.known.has(waiting.event.hashes[0]!))
    const waits = batch.filter((waiting) => !entry.known.has(waiting.event.hashes[0]!))
    for (let at = 0; at < passing.length; at += options.batchEvents) {
      const part = passing.slice(at, at + options.batchEvents)
      try {
        settle(part, await connection.write(part))
      } catch (error) {
        queue.putBack(waits)
        queue.putBack(passing.slice(at + options.batchEvents))
        await putAside(entry, part, error)
        return null
      }
    }
    return waits
  }

  /** Known, and yet it needs the lock; or it failed for another reason. */
  async function putAside(entry: Held, part: Waiting[], error: unknown): Promise<void> {
    if (failureOf(error) !== 'blocked') return options.onOtherFailure(part, error)
    for (const { event } of part) if (entry.known.delete(event.hashes[0]!)) entry.stuck.add(event.hashes[0]!)
    queue.putBack(part)
  }

  async function writeHeld(projectId: string, entry: Held, batch: Waiting[]): Promise<boolean> {
    const look = setTimeout(() => void noteBlocker(projectId, entry), lookAfter)
    try {
      settle(batch, await connection.write(batch))
      return true
    } catch (error) {
      if (failureOf(error) === 'blocked') queue.putBack(batch)
      else await options.onOtherFailure(batch, error)
      return false
    } finally {
      clearTimeout(look)
    }
  }

  async function noteBlocker(projectId: string, entry: Held): Promise<void> {
    if (connection.pid === null) return
    try {
      const blocker = await options.findBlocker(connection.pid)
      if (!blocker) return
      if (entry.blocker?.pid !== blocker.pid) log.warn('write.blocked', { project_id: projectId, ...blocker })
      entry.blocker = blocker
    } catch (error) {
      log.warn('write.blocker_unknown', { project_id: projectId, error })
    }
  }

  return {
    hold,
    laneOf(projectId, hash) {
      const entry = held.get(projectId)
      return entry && !entry.known.has(hash) ? entry.lane : projectId
    },
    state: () =>
      [...held].map(([project_id, { since, blocker }]) => ({
        project_id,
        for_ms: Math.round(performance.now() - since),
        ...(blocker ?? { pid: null, role: null, application: null, state: null, query: null }),
      })),
    idle: () => serving ?? Promise.resolve(),
  }
}

export function settle(batch: Waiting[], outcomes: Outcome[]) {
  for (const [index, waiting] of batch.entries()) waiting.resolve(outcomes[index]!)
}
