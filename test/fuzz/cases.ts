// Runs one target case by case. A failure names the seed and the case, which is enough to repeat that case alone.

import type { Random } from '../support/random.ts'
import { randomOf } from './generate.ts'

/** `number` is the case's own, for targets that go through a list. */
export type Target = (random: Random, number: number) => void | Promise<void>

export interface Slice {
  seed: number
  cases: number
  /** The first case of the slice. */
  from?: number
}

/** Resolves to the milliseconds of the slowest case, which say whether some input costs more than it should. */
export async function fuzz(name: string, target: Target, { seed, cases, from = 0 }: Slice): Promise<number> {
  let slowest = 0
  for (let number = from; number < from + cases; number++) {
    const start = performance.now()
    try {
      const running = target(randomOf(seed, number), number)
      if (running) await running
    } catch (error) {
      throw failed(name, seed, number, error)
    }
    slowest = Math.max(slowest, performance.now() - start)
  }
  return slowest
}

/** Several at once, for targets that wait for a server. */
export async function fuzzTogether(name: string, targets: Target[], { seed, cases, from = 0 }: Slice): Promise<void> {
  let next = from
  await Promise.all(
    targets.map(async (target) => {
      while (next < from + cases) {
        const number = next++
        try {
          await target(randomOf(seed, number), number)
        } catch (error) {
          next = Number.POSITIVE_INFINITY
          throw failed(name, seed, number, error)
        }
      }
    }),
  )
}

function failed(name: string, seed: number, number: number, cause: unknown): Error {
  const again = `npm run fuzz -- --seed ${seed} --only ${name} --from ${number} --cases 1`
  return new Error(
    `case ${number} of ${name} (SEED=${seed}; ${again}): ${cause instanceof Error ? cause.message : cause}`,
    {
      cause,
    },
  )
}
