// What waits to be written, in a lane for each project. A batch takes from every lane in turn, or, in a storm, from those
// without a crowd first, so that a project's backlog delays nobody else. Bounded as a whole and for each project; a lane that
// somebody's lock blocks is left out and served apart.

import type { Outcome } from '../ingest/accept.ts'
import type { Event } from '../ingest/event.ts'

export interface Waiting {
  project_id: string
  /** The line it stands in: its project's, or the one of what a lock holds up. */
  lane: string
  event: Event
  bytes: number
  /** When it came, in milliseconds of the monotonic clock. */
  since: number
  resolve(outcome: Outcome): void
  reject(error: Error): void
}

export interface QueueLimits {
  events: number
  bytes: number
  /** The share of both that one project may fill. */
  projectShare: number
}

interface Lane {
  name: string
  items: Waiting[]
  bytes: number
  blocked: boolean
}

export interface Queue {
  readonly size: number
  readonly bytes: number
  /** Events in lanes that are not blocked. */
  readonly ready: number
  /** Whether an event of so many bytes finds no room in this lane; `most` is a bound of its own for the lane. */
  isFull(lane: string, bytes: number, most?: number): boolean
  push(waiting: Waiting): void
  /**
   * At most so many events and, but for the first, bytes; the oldest of each lane first, of lanes that `choose` agrees to by
   * name and length.
   */
  take(events: number, bytes: number, choose?: (lane: string, waiting: number) => boolean): Waiting[]
  takeBlocked(lane: string, events: number, bytes: number): Waiting[]
  /** Back to the front of their lanes, in the order they had. */
  putBack(waiting: Waiting[]): void
  /** Leaves a lane out of `take`; its events may wait longer than others. */
  block(lane: string): void
  unblock(lane: string): void
  count(lane: string): number
  /** Everything of one lane to the end of another. */
  move(from: string, to: string): void
  /** Removes and returns what came before `since`. */
  expired(since: number, blockedSince: number): Waiting[]
}

export function createQueue(limits: QueueLimits): Queue {
  const lanes = new Map<string, Lane>()
  let size = 0
  let bytes = 0
  let blockedSize = 0

  function laneOf(name: string): Lane {
    let lane = lanes.get(name)
    if (!lane) {
      lane = { name, items: [], bytes: 0, blocked: false }
      lanes.set(name, lane)
    }
    return lane
  }

  function account(lane: Lane, events: number, weight: number) {
    size += events
    bytes += weight
    lane.bytes += weight
    if (lane.blocked) blockedSize += events
    if (lane.items.length === 0 && !lane.blocked) lanes.delete(lane.name)
  }

  function takeFrom(lane: Lane, events: number, room: number, taken: Waiting[]): number {
    let count = 0
    let weight = 0
    for (const item of lane.items) {
      if (count === events || (weight + item.bytes > room && taken.length + count > 0)) break
      count += 1
      weight += item.bytes
    }
    taken.push(...lane.items.splice(0, count))
    account(lane, -count, -weight)
    return weight
  }

  return {
    get size() {
      return size
    },
    get bytes() {
      return bytes
    },
    get ready() {
      return size - blockedSize
    },
    isFull(name, weight, most = Number.POSITIVE_INFINITY) {
      if (size >= limits.events || bytes + weight > limits.bytes) return true
      const lane = lanes.get(name)
      if (!lane) return false
      return (
        lane.items.length >= Math.min(most, limits.events * limits.projectShare) ||
        lane.bytes + weight > limits.bytes * limits.projectShare
      )
    },
    push(waiting) {
      const lane = laneOf(waiting.lane)
      lane.items.push(waiting)
      account(lane, 1, waiting.bytes)
    },
    take(events, room, choose = () => true) {
      const taken: Waiting[] = []
      let left = room
      let open = [...lanes.values()].filter(
        ({ name, blocked, items }) => !blocked && items.length > 0 && choose(name, items.length),
      )
      while (open.length > 0 && taken.length < events && left > 0) {
        const share = Math.max(1, Math.floor((events - taken.length) / open.length))
        const before = taken.length
        for (const lane of open) {
          if (taken.length >= events || left <= 0) break
          left -= takeFrom(lane, Math.min(share, events - taken.length), left, taken)
          // Who was served goes to the end of the line.
          if (lanes.delete(lane.name) && lane.items.length > 0) lanes.set(lane.name, lane)
        }
        if (taken.length === before) break
        open = open.filter((lane) => lane.items.length > 0)
      }
      return taken
    },
    takeBlocked(name, events, room) {
      const taken: Waiting[] = []
      const lane = lanes.get(name)
      if (lane) takeFrom(lane, events, room, taken)
      return taken
    },
    putBack(waiting) {
      for (let index = waiting.length - 1; index >= 0; index--) {
        const item = waiting[index]!
        const lane = laneOf(item.lane)
        lane.items.unshift(item)
        account(lane, 1, item.bytes)
      }
    },
    block(name) {
      const lane = laneOf(name)
      if (lane.blocked) return
      lane.blocked = true
      blockedSize += lane.items.length
    },
    unblock(name) {
      const lane = lanes.get(name)
      if (!lane?.blocked) return
      lane.blocked = false
      blockedSize -= lane.items.length
      if (lane.items.length === 0) lanes.delete(name)
    },
    count: (name) => lanes.get(name)?.items.length ?? 0,
    move(from, to) {
      const source = lanes.get(from)
      if (!source) return
      const items = source.items.splice(0)
      account(source, -items.length, -items.reduce((sum, item) => sum + item.bytes, 0))
      const target = laneOf(to)
      for (const item of items) {
        item.lane = to
        target.items.push(item)
        account(target, 1, item.bytes)
      }
    },
    expired(since, blockedSince) {
      const gone: Waiting[] = []
      for (const lane of [...lanes.values()]) {
        const limit = lane.blocked ? blockedSince : since
        const kept = lane.items.filter((item) => item.since >= limit)
        if (kept.length === lane.items.length) continue
        const lost = lane.items.filter((item) => item.since < limit)
        lane.items = kept
        account(lane, -lost.length, -lost.reduce((sum, item) => sum + item.bytes, 0))
        gone.push(...lost)
      }
      return gone
    },
  }
}
