// API tokens: programs that read and act, in one organization or one project of it. The database keeps sha256 only, which is
// enough for 160 random bits.

import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import type { Access, Scope } from './access.ts'
import { createLookup, hashOf } from './lookup.ts'

export interface NewToken {
  organization_id: string
  name: string
  scope: Scope
  only_project_id?: string | null
  created_by?: string
  expires_at?: Date | null
}

/** Makes a token and returns its text, the only time it exists outside its owner. */
export async function createToken(db: Db, token: NewToken): Promise<{ id: string; text: string }> {
  const text = `msh_${randomBytes(20).toString('hex')}`
  const { id } = await db
    .insertInto('api_tokens')
    .values({ ...token, token_hash: hashOf(text), hint: text.slice(0, 8) })
    .returning('id')
    .executeTakeFirstOrThrow()
  return { id, text }
}

export interface Tokens {
  /** Throws unauthenticated when the token is unknown, expired or revoked. */
  authenticate(text: string): Promise<Access>
  /** Something was revoked, or changes may have been missed. */
  forgetAll(): void
}

export function createTokens(db: Db, now: () => number): Tokens {
  const noted = new Map<string, number>()
  const lookup = createLookup(load, now)

  async function load(token_hash: Buffer): Promise<Access> {
    const row = await db
      .selectFrom('api_tokens')
      .select(['id', 'name', 'organization_id', 'scope', 'only_project_id'])
      .where('token_hash', '=', token_hash)
      .where('revoked_at', 'is', null)
      .where((where) => where.or([where('expires_at', 'is', null), where('expires_at', '>', sql<Date>`now()`)]))
      .executeTakeFirst()
    if (!row) throw new AppError('unauthenticated', 'This API token is unknown, expired or revoked: make a new one')
    noteUse(row.id)
    return {
      credential: `token:${row.id}`,
      actor: `token:${row.name}`,
      user_id: null,
      grants: [{ organization_id: row.organization_id, right: row.scope as Scope }],
      only_project_id: row.only_project_id,
    }
  }

  /** By the minute, and never waited for: somebody's open transaction on the row is nobody's business here. */
  function noteUse(id: string) {
    if (now() - (noted.get(id) ?? 0) < 60_000) return
    if (noted.size > 10_000) noted.clear()
    noted.set(id, now())
    sql`update api_tokens set last_used_at = now() where id = (
          select id from api_tokens where id = ${id} for update skip locked)`
      .execute(db)
      .catch(() => noted.delete(id))
  }

  return {
    async authenticate(text) {
      if (!/^msh_[0-9a-f]{40}$/.test(text)) {
        throw new AppError('unauthenticated', 'An API token is needed: send it as "Authorization: Bearer msh_…"')
      }
      return lookup.find(text)
    },
    forgetAll: lookup.forgetAll,
  }
}
