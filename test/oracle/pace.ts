// Waiting, as everybody in the oracle does it. Servers reach their database through this process: where its timers are late
// the machine has other work, and who went on at the same pace would have all of them wait for each other.

import { setTimeout as delay } from 'node:timers/promises'
import type { Random } from '../support/random.ts'

/** So many milliseconds, and ten times what the machine was late. Ends early, without an error, with the signal. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  const sleep = (time: number) => delay(time, undefined, signal ? { signal } : {}).catch(() => {})
  const began = performance.now()
  await sleep(milliseconds)
  const late = performance.now() - began - milliseconds
  if (late > 50 && !signal?.aborted) await sleep(Math.min(5_000, 10 * late))
}

/** Milliseconds before the next attempt, as whoever is told to come back should wait: longer each time, not in step. */
export function backOff(attempt: number, random: Random): number {
  return Math.min(5_000, 30 * 2 ** attempt) * (0.5 + random.below(100) / 100)
}
