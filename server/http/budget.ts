// What bodies may take of memory, all together: each is bounded by its route, but thousands of bounded ones are not.

import { AppError } from '../errors.ts'

export interface Budget {
  /** Throws unavailable when there is no room; `before` is what the same request has already. Negative gives back. */
  take(bytes: number, before: number): void
  give(bytes: number): void
}

/** Of large requests together, so that slow uploads never keep an ordinary event out. */
const largeShare = 0.75
const largeBytes = 64 * 1024

export function createBudget(most: number): Budget {
  let used = 0
  return {
    take(bytes, before) {
      const room = before + bytes > largeBytes ? most * largeShare : most
      if (bytes > 0 && used + bytes > room) {
        throw new AppError('unavailable', 'Too many bodies are being read just now: send this one again.', {
          retryAfter: 2,
        })
      }
      used += bytes
    },
    give(bytes) {
      used -= bytes
    },
  }
}
