// What a credential stands for, kept for a short while by its hash. One question at a time for each; an answer that was
// read while something was revoked is not kept: it may be the old one.

import { createHash } from 'node:crypto'

export interface Lookup<T> {
  find(secret: string): T | Promise<T>
  forgetAll(): void
}

const keepFor = 10_000
const most = 10_000

export const hashOf = (secret: string) => createHash('sha256').update(secret).digest()

/** `load` gets the sha256 of the secret, and rejects when it stands for nothing. */
export function createLookup<T>(load: (hash: Buffer) => Promise<T>, now: () => number): Lookup<T> {
  const cache = new Map<string, { value: T; until: number }>()
  const asked = new Map<string, Promise<T>>()
  let generation = 0

  async function ask(hash: Buffer, key: string): Promise<T> {
    const before = generation
    const value = await load(hash)
    if (before === generation) {
      if (cache.size >= most) cache.clear()
      cache.set(key, { value, until: now() + keepFor })
    }
    return value
  }

  return {
    find(secret) {
      const hash = hashOf(secret)
      const key = hash.toString('base64')
      const cached = cache.get(key)
      if (cached && cached.until > now()) return cached.value
      cache.delete(key)
      const running = asked.get(key)
      if (running) return running
      const asking = ask(hash, key).finally(() => {
        if (asked.get(key) === asking) asked.delete(key)
      })
      asked.set(key, asking)
      return asking
    },
    forgetAll() {
      generation += 1
      asked.clear()
      cache.clear()
    },
  }
}
