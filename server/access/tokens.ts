// API tokens: who may read and act, in which organization. The database keeps sha256 only, which is enough for 160 random
// bits. Answers are cached for a short while and forgotten as soon as a token is revoked (channel mesher, action tokens).

import { createHash, randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'

export interface Access {
  token_id: string
  /** Shown to others as the actor of a change. */
  token_name: string
  organization_id: string
}

export interface Project {
  id: string
  slug: string
  name: string
}

/** Makes a token and returns its text, the only time it exists outside its owner. */
export async function createToken(db: Db, token: { organization_id: string; name: string }): Promise<string> {
  const text = `msh_${randomBytes(20).toString('hex')}`
  await db
    .insertInto('api_tokens')
    .values({ ...token, token_hash: hashOf(text) })
    .execute()
  return text
}

const hashOf = (text: string) => createHash('sha256').update(text).digest()
const cacheFor = 10_000

export interface Tokens {
  /** Throws unauthenticated when the token is unknown or revoked. */
  authenticate(text: string): Promise<Access>
  /** The project by id or slug, if this access may know of it; throws not_found. */
  project(access: Access, idOrSlug: string): Promise<Project>
  projects(access: Access): Promise<Project[]>
  /** A token was revoked. */
  forget(tokenId: string): void
  /** After the connection to the database was lost, changes may have been missed. */
  forgetAll(): void
}

export function createTokens(db: Db, now: () => number): Tokens {
  const cache = new Map<string, { access: Access; until: number }>()
  const asked = new Map<string, Promise<Access>>()
  const askedProjects = new Map<string, Promise<Project>>()
  const noted = new Map<string, number>()
  let generation = 0

  /** By the minute, and never waited for: somebody's open transaction on the row is nobody's business here. */
  function noteUse(id: string) {
    if (now() - (noted.get(id) ?? 0) < 60_000) return
    noted.set(id, now())
    sql`update api_tokens set last_used_at = now() where id = (
          select id from api_tokens where id = ${id} for update skip locked)`
      .execute(db)
      .catch(() => noted.delete(id))
  }

  function find(text: string): Access | Promise<Access> {
    const key = hashOf(text).toString('base64')
    const cached = cache.get(key)
    if (cached && cached.until > now()) return cached.access
    cache.delete(key)
    const asking = asked.get(key) ?? load(text, key).finally(() => asked.delete(key))
    asked.set(key, asking)
    return asking
  }

  async function load(text: string, key: string): Promise<Access> {
    const before = generation
    const row = await db
      .selectFrom('api_tokens')
      .select(['id', 'name', 'organization_id'])
      .where('token_hash', '=', hashOf(text))
      .where('revoked_at', 'is', null)
      .executeTakeFirst()
    if (!row) throw new AppError('unauthenticated', 'This API token is unknown or revoked: make a new one')
    noteUse(row.id)
    const access = { token_id: row.id, token_name: row.name, organization_id: row.organization_id }
    // What was read while a token was revoked is not cached: it may be the old answer.
    if (before === generation) {
      if (cache.size > 10_000) cache.clear()
      cache.set(key, { access, until: now() + cacheFor })
    }
    return access
  }

  const projectsOf = (access: Access) =>
    db.selectFrom('projects').select(['id', 'slug', 'name']).where('organization_id', '=', access.organization_id)

  async function findProject(access: Access, idOrSlug: string): Promise<Project> {
    const isId = /^[1-9][0-9]{0,17}$/.test(idOrSlug)
    // PostgreSQL fails on text with NUL in it; what is no slug names no project.
    const row =
      isId || /^[a-z0-9-]{1,64}$/.test(idOrSlug)
        ? await projectsOf(access)
            .where(isId ? 'id' : 'slug', '=', idOrSlug)
            .executeTakeFirst()
        : undefined
    if (!row) throw new AppError('not_found', 'There is no such project, or this token may not see it')
    return row
  }

  return {
    async authenticate(text) {
      if (!/^msh_[0-9a-f]{40}$/.test(text)) {
        throw new AppError('unauthenticated', 'An API token is needed: send it as "Authorization: Bearer msh_…"')
      }
      return find(text)
    },
    async project(access, idOrSlug) {
      // A thousand dashboards that come back at once are one question.
      const key = `${access.organization_id} ${idOrSlug}`
      const asking = askedProjects.get(key) ?? findProject(access, idOrSlug).finally(() => askedProjects.delete(key))
      askedProjects.set(key, asking)
      return asking
    },
    projects: (access) => projectsOf(access).orderBy('id').execute(),
    forget(tokenId) {
      generation += 1
      asked.clear()
      for (const [key, { access }] of cache) if (access.token_id === tokenId) cache.delete(key)
    },
    forgetAll() {
      generation += 1
      asked.clear()
      cache.clear()
    },
  }
}
