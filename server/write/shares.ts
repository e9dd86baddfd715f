// What a free connection writes next. Usually whatever waits, all projects together. While several projects send and one of
// them has a crowd waiting, that one is kept apart: its batches are smaller (encoding and settling 500 events holds the event
// loop for 10 ms), and while one is under way the last free connection is for projects that have none, so that nobody waits
// for another's backlog, or for a lock that somebody holds on its rows.

import type { Queue, Waiting } from './queue.ts'

export interface ShareLimits {
  batchEvents: number
  batchBytes: number
  /** More waiting events of a lane than these are a crowd. */
  crowd: number
  /** How many of a crowd a batch holds. */
  crowdBatch: number
}

export interface Share {
  batch: Waiting[]
  /** A crowd's. */
  crowded: boolean
}

export interface Shares {
  /** An empty batch when nothing waits, or when the connection is to be kept free. Any other is given back with `done`. */
  next(contended: boolean): Share
  done(share: Share): void
  /** Whether a crowd is being written. */
  readonly crowded: boolean
}

export function createShares(queue: Queue, connections: number, limits: ShareLimits): Shares {
  const underway = new Set<Share>()
  const crowded = () => [...underway].some((share) => share.crowded)
  let previous: Share | undefined

  function takeCrowd(): Waiting[] {
    return queue.take(limits.crowdBatch, limits.batchBytes, (_, waiting) => waiting > limits.crowd)
  }

  function choose(contended: boolean): Share {
    if (!contended) return { batch: queue.take(limits.batchEvents, limits.batchBytes), crowded: false }
    const isLast = connections > 1 && underway.size === connections - 1
    // Nor may the others starve a crowd: the last connection is its own when it has none, and of a single one every other turn.
    if (!crowded() && (connections === 1 ? previous?.crowded === false : isLast)) {
      const batch = takeCrowd()
      if (batch.length > 0) return { batch, crowded: true }
    }
    const busy = new Set(isLast ? [...underway].flatMap(({ batch }) => batch.map((waiting) => waiting.lane)) : [])
    const others = queue.take(
      limits.batchEvents,
      limits.batchBytes,
      (lane, waiting) => waiting <= limits.crowd && !busy.has(lane),
    )
    if (others.length > 0 || isLast) return { batch: others, crowded: false }
    return { batch: takeCrowd(), crowded: true }
  }

  return {
    get crowded() {
      return crowded()
    },
    next(contended) {
      const share = choose(contended)
      if (share.batch.length === 0) return share
      underway.add(share)
      previous = share
      return share
    },
    done: (share) => void underway.delete(share),
  }
}
