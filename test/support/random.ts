// Randomness that a failing test can name, and the next run repeat: SEED=<number> npm test -- <file>.

export interface Random {
  /** To be named in assertion messages. */
  readonly seed: number
  /** 0 to n - 1. */
  below(n: number): number
  pick<T>(list: readonly T[]): T
  shuffled<T>(list: readonly T[]): T[]
  /** So many hex digits. */
  hex(digits: number): string
}

export function createRandom(seed = Number(process.env.SEED ?? Date.now() % 1_000_000)): Random {
  let state = seed >>> 0
  // mulberry32
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (n: number) => Math.floor(next() * n)
  return {
    seed,
    below,
    pick: (list) => list[below(list.length)]!,
    shuffled(list) {
      const copy = [...list]
      for (let last = copy.length - 1; last > 0; last--) {
        const other = below(last + 1)
        ;[copy[last], copy[other]] = [copy[other]!, copy[last]!]
      }
      return copy
    },
    hex: (digits) => Array.from({ length: digits }, () => below(16).toString(16)).join(''),
  }
}
