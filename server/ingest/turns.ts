// Parsing by turns. While several projects send, one project's storm must not keep the event loop from the others: what is
// parsed in one turn of the loop is bounded by time, and what is left waits in a line for each project, served one event
// of each in turn. With one project alone nobody waits.

import type { Contention } from '../contention.ts'
import { AppError } from '../errors.ts'

export interface Turns {
  /** Runs `work` now, or when it is the project's turn; rejects with rate_limited when too much of it waits. */
  run<T>(projectId: string, bytes: number, work: () => T): T | Promise<T>
  /** Whether this project's line is full. */
  isFull(projectId: string): boolean
}

export interface TurnsOptions {
  contention: Contention
  now(): number
  /** Milliseconds of parsing in one turn of the event loop. */
  slice?: number
  /** Of one project that waits. */
  most?: { events: number; bytes: number }
}

interface Line {
  items: { bytes: number; run(): void }[]
  bytes: number
}

export function createTurns({ contention, now, slice = 2, most = defaultMost }: TurnsOptions): Turns {
  const lines = new Map<string, Line>()
  /** When this turn of the loop began to parse. */
  let began = 0
  let due: NodeJS.Immediate | undefined

  /** True when nobody waits and this turn has time left. */
  function mayRun(at: number): boolean {
    if (!contention.holds(at)) return lines.size === 0
    if (lines.size > 0) return false
    if (due === undefined) {
      began = at
      due = setImmediate(serve)
    }
    return at - began < slice
  }

  function isFull(projectId: string): boolean {
    const line = lines.get(projectId)
    return line !== undefined && (line.items.length >= most.events || line.bytes >= most.bytes)
  }

  function serve() {
    due = undefined
    if (lines.size === 0) return
    began = now()
    due = setImmediate(serve)
    do {
      const [projectId, line] = lines.entries().next().value!
      const item = line.items.shift()!
      line.bytes -= item.bytes
      // Who was served goes to the end.
      lines.delete(projectId)
      if (line.items.length > 0) lines.set(projectId, line)
      item.run()
    } while (lines.size > 0 && now() - began < slice)
  }

  function wait<T>(projectId: string, bytes: number, work: () => T): Promise<T> {
    if (isFull(projectId)) return Promise.reject(crowded())
    return new Promise((resolve, reject) => {
      const run = () => {
        try {
          resolve(work())
        } catch (error) {
          reject(error)
        }
      }
      const line = lines.get(projectId) ?? { items: [], bytes: 0 }
      line.items.push({ bytes, run })
      line.bytes += bytes
      lines.set(projectId, line)
      due ??= setImmediate(serve)
    })
  }

  return {
    isFull,
    run(projectId, bytes, work) {
      const at = now()
      contention.seen(projectId, at)
      return mayRun(at) ? work() : wait(projectId, bytes, work)
    },
  }
}

export function crowded(): AppError {
  return new AppError('rate_limited', 'More events of this project wait than its share: slow down', { retryAfter: 1 })
}

const defaultMost = { events: 2_000, bytes: 32 * 1024 * 1024 }
