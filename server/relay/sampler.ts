// Above 200 events a second a project's stream shows a sample: nobody reads more, and 10,000 a second would drown every
// dashboard. A bucket, so that a burst below the limit passes whole and a storm is shown evenly.

import { sampledAbove } from '../protocol.ts'

export interface Sampler {
  /** Whether the event that is told now is shown. */
  take(now: number): boolean
  /** What came since the last call; null when all of it was shown. */
  report(): { events: number; shown: number } | null
}

/** Clocks in milliseconds. */
export function createSampler(now: number): Sampler {
  let tokens = sampledAbove
  let filledAt = now
  let events = 0
  let shown = 0
  return {
    take(at) {
      tokens = Math.min(sampledAbove, tokens + ((at - filledAt) * sampledAbove) / 1000)
      filledAt = at
      events += 1
      if (tokens < 1) return false
      tokens -= 1
      shown += 1
      return true
    },
    report() {
      const counted = { events, shown }
      events = 0
      shown = 0
      return counted.events > counted.shown ? counted : null
    },
  }
}
