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
  /** How long a storm lasts. */
  stormMs: number
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

export interface Round {
  /** Units a second. */
  rate: number
  /** Microseconds of processor time that one unit cost, by who took it. */
  cpu_us: Record<string, number>
}

/** Works for about so many milliseconds. */
export type Subject = (milliseconds: number) => Promise<Round>

export async function compare(
  { rounds, roundMs, smoke }: Context,
  unit: string,
  subject: Subject,
  against: Subject,
): Promise<Measured> {
  const values: Round[] = []
  const ceilings: Round[] = []
  if (!smoke) {
    await against(roundMs / 2)
    await subject(roundMs / 2)
  }
  for (let round = 0; round < rounds; round++) {
    ceilings.push(await against(roundMs))
    values.push(await subject(roundMs))
  }
  const value = best(values)
  const ceiling = best(ceilings)
  const pairs = values.map((one, round) => one.rate / ceilings[round]!.rate).sort((a, b) => a - b)
  return {
    value: Math.round(value.rate),
    unit,
    ceiling: Math.round(ceiling.rate),
    ratio: rounded(value.rate / ceiling.rate, 3),
    ratio_median: rounded(quantile(pairs, 0.5), 3),
    rounds: values.map(({ rate }) => Math.round(rate)),
    ceiling_rounds: ceilings.map(({ rate }) => Math.round(rate)),
    round_seconds: roundMs / 1000,
    cpu_us: value.cpu_us,
    ceiling_cpu_us: ceiling.cpu_us,
  }
}

const best = (rounds: Round[]): Round => rounds.reduce((a, b) => (b.rate > a.rate ? b : a))

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
