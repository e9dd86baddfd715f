// DSN keys: which project a key may send to, and what is scrubbed from what it sends. Known keys are cached for a minute,
// unknown ones for ten seconds, so that a flood with a wrong key costs no queries; a change of a key or of its project is told
// by the database (channel mesher, action keys).

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import type { Keys, ProjectKey } from '../ingest/accept.ts'

const known = 60_000
const unknown = 10_000
const most = 10_000

export interface KeyCache extends Keys {
  forget(publicKey: string): void
  /** After the connection to the database was lost, changes may have been missed. */
  forgetAll(): void
}

export function createKeys(db: Db, now: () => number): KeyCache {
  const cache = new Map<string, { key: ProjectKey | null; until: number }>()
  const asked = new Map<string, Promise<ProjectKey | null>>()
  let generation = 0

  async function load(publicKey: string): Promise<ProjectKey | null> {
    const before = generation
    const row = await db
      .selectFrom('project_keys')
      .innerJoin('projects', 'projects.id', 'project_keys.project_id')
      .select(['project_id', 'public_key'])
      .select(['scrub_data', 'scrub_defaults', 'scrub_ip_addresses', 'sensitive_fields', 'safe_fields'])
      .where('public_key', '=', publicKey)
      .where('revoked_at', 'is', null)
      .executeTakeFirst()
    const key = row === undefined ? null : keyFrom(row)
    if (key) noteUse(publicKey)
    // A key that was changed while it was read is not cached: the answer may be the old one.
    if (before === generation) {
      if (cache.size >= most) cache.clear()
      cache.set(publicKey, { key, until: now() + (key ? known : unknown) })
    }
    return key
  }

  /** With each look-up, so by the minute; never waited for: somebody's open transaction on the row is nobody's business here. */
  function noteUse(publicKey: string) {
    sql`update project_keys set last_used_at = now() where public_key = (
          select public_key from project_keys where public_key = ${publicKey} for update skip locked)`
      .execute(db)
      .catch(() => {})
  }

  return {
    find(publicKey) {
      if (!/^[0-9a-f]{32}$/.test(publicKey)) return null
      const cached = cache.get(publicKey)
      if (cached && cached.until > now()) return cached.key
      const asking = asked.get(publicKey) ?? load(publicKey).finally(() => asked.delete(publicKey))
      asked.set(publicKey, asking)
      return asking
    },
    forget(publicKey) {
      generation += 1
      cache.delete(publicKey)
    },
    forgetAll() {
      generation += 1
      cache.clear()
    },
  }
}

function keyFrom({
  project_id,
  public_key,
  ...scrubbing
}: Omit<ProjectKey, 'scrubbing'> & ProjectKey['scrubbing']): ProjectKey {
  return { project_id, public_key, scrubbing }
}
