// What a figure is, and how one is compared with a ceiling: both take turns in short rounds, so that what else the machine
// does falls on both, and the best round of each counts, since others can only make a round slower.

import type { Database } from './database.ts'

export interface Context {
  /** Migrated and with its first project, unless `migrated: false`; dropped when the figure is done. */
  database(options?: { migrated?: boolean }): Promise<Database>
  /** Registers what is to be undone when the figure is done; the last first. */
  after(undo: () => Promise<unknown> | undefined): void
  rounds: number
  /** Milliseconds of one round. */
  roundMs: number
  /** Tiny sizes, about a second each: what is looked at is that everything still arrives. */
  smoke: boolean
}

export interface Measured {
  value: number
  unit: string
  ceiling?: number
  ratio?: number
  [parameter: string]: unknown
}

export type Bench = (context: Context) => Promise<Measured>

/** Works for about so many milliseconds and tells how many units a second it did. */
export type Subject = (milliseconds: number) => Promise<number>

export async function compare(
  { rounds, roundMs, smoke }: Context,
  unit: string,
  subject: Subject,
  against: Subject,
): Promise<Measured> {
  const values: number[] = []
  const ceilings: number[] = []
  if (!smoke) {
    await against(roundMs / 2)
    await subject(roundMs / 2)
  }
  for (let round = 0; round < rounds; round++) {
    ceilings.push(await against(roundMs))
    values.push(await subject(roundMs))
  }
  const value = Math.max(...values)
  const ceiling = Math.max(...ceilings)
  const pairs = values.map((one, round) => one / ceilings[round]!).sort((a, b) => a - b)
  return {
    value: Math.round(value),
    unit,
    ceiling: Math.round(ceiling),
    ratio: rounded(value / ceiling, 3),
    ratio_median: rounded(quantile(pairs, 0.5), 3),
    rounds: values.map(Math.round),
    ceiling_rounds: ceilings.map(Math.round),
    round_seconds: roundMs / 1000,
  }
}

export function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}

export function quantile(sorted: ArrayLike<number>, q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN
}

/** What the figures are worth depends on this: a figure of a run in which something was lost is none. */
export function mustEqual(actual: number, expected: number, what: string): void {
  if (actual !== expected) throw new Error(`${what}: ${actual} instead of ${expected}`)
}
