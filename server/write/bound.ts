// Hashes that this process has seen bound to an issue: PostgreSQL need not be told again what they are of, nor look whether
// the second hashes of a batch are there. Being wrong about one costs a second try (MS004), so nothing is told of deletions.

export interface BoundHashes {
  has(projectId: string, hash: string): boolean
  add(projectId: string, hashes: Iterable<string>): void
  forget(projectId: string, hashes: Iterable<string>): void
}

/** Remembers between `most` and twice as many; those that were not asked for lately go first. */
export function createBoundHashes(most = 50_000): BoundHashes {
  let young = new Set<string>()
  let old = new Set<string>()
  const nameOf = (projectId: string, hash: string) => `${projectId} ${hash}`

  function keep(name: string) {
    young.add(name)
    if (young.size < most) return
    old = young
    young = new Set()
  }

  return {
    has(projectId, hash) {
      const name = nameOf(projectId, hash)
      if (young.has(name)) return true
      if (!old.has(name)) return false
      keep(name)
      return true
    },
    add(projectId, hashes) {
      for (const hash of hashes) {
        const name = nameOf(projectId, hash)
        if (!young.has(name)) keep(name)
      }
    },
    forget(projectId, hashes) {
      for (const hash of hashes) {
        young.delete(nameOf(projectId, hash))
        old.delete(nameOf(projectId, hash))
      }
    },
  }
}
