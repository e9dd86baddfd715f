// Links that are used once: a forgotten password, an invitation. The database keeps their sha256.

import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import type { Role } from './access.ts'
import { hashOf } from './lookup.ts'

const hour = 60 * 60
/** Seconds. */
const lifetime = { reset: 24 * hour, invite: 7 * 24 * hour }

export type Link = Reset | Invitation
export interface Reset {
  purpose: 'reset'
  user_id: string
}
export interface Invitation {
  purpose: 'invite'
  organization_id: string
  email: string
  role: Role
}

/** Returns the id, and the secret part of the link. */
export async function createLink(db: Db, link: Link, created_by: string): Promise<{ id: string; text: string }> {
  const text = randomBytes(32).toString('base64url')
  const { id } = await db
    .insertInto('one_time_links')
    .values({
      ...link,
      created_by,
      token_hash: hashOf(text),
      expires_at: sql<Date>`now() + make_interval(secs => ${lifetime[link.purpose]})`,
    })
    .returning('id')
    .executeTakeFirstOrThrow()
  return { id, text }
}

export interface FoundLink {
  id: string
  purpose: 'reset' | 'invite'
  user_id: string | null
  organization_id: string | null
  email: string | null
  role: Role | null
}

/** Throws not_found when it was used, is over, was withdrawn, or never was. */
export async function findLink(db: Db, purpose: 'reset' | 'invite', text: string): Promise<FoundLink> {
  const row = await db
    .selectFrom('one_time_links')
    .select(['id', 'user_id', 'organization_id', 'email', 'role'])
    .where('token_hash', '=', hashOf(text))
    .where('purpose', '=', purpose)
    .where('used_at', 'is', null)
    .where('expires_at', '>', sql<Date>`now()`)
    .executeTakeFirst()
  if (!row) throw overOrUnknown()
  return { ...row, purpose, role: row.role as Role | null }
}

/** In the transaction that does what the link is for; throws not_found when somebody else was faster. */
export async function useLink(trx: Db, id: string): Promise<void> {
  const used = await trx
    .updateTable('one_time_links')
    .set({ used_at: sql<Date>`now()` })
    .where('id', '=', id)
    .where('used_at', 'is', null)
    .executeTakeFirst()
  if (used.numUpdatedRows === 0n) throw overOrUnknown()
}

const overOrUnknown = () => new AppError('not_found', 'This link was used or is over: ask for a new one')
