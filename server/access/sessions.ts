// Sessions of people in a browser. The cookie holds 256 random bits, the database their sha256. A session ends thirty days
// after it was last used, at sign-out, when it is revoked, and with every change of its user's password.

import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { type Access, type Role, rightOfRole } from './access.ts'
import { createLookup, hashOf } from './lookup.ts'

/** Seconds. */
export const sessionLifetime = 30 * 24 * 60 * 60

export interface Visitor {
  address: string
  user_agent: string
}

/** Returns what goes into the cookie. */
export async function createSession(db: Db, user_id: string, visitor: Visitor): Promise<string> {
  const text = randomBytes(32).toString('base64url')
  await db
    .insertInto('sessions')
    .values({
      user_id,
      token_hash: hashOf(text),
      expires_at: sql<Date>`now() + make_interval(secs => ${sessionLifetime})`,
      address: visitor.address,
      user_agent: visitor.user_agent.slice(0, 300),
    })
    .execute()
  return text
}

export interface Sessions {
  /** Throws unauthenticated when the session is unknown, over or revoked. */
  authenticate(text: string): Promise<Access>
  forgetAll(): void
}

export function createSessions(db: Db, now: () => number): Sessions {
  const noted = new Map<string, number>()
  const lookup = createLookup(load, now)

  async function load(token_hash: Buffer): Promise<Access> {
    const session = await db
      .selectFrom('sessions')
      .innerJoin('users', 'users.id', 'sessions.user_id')
      .select(['sessions.id', 'users.id as user_id', 'users.email'])
      .where('token_hash', '=', token_hash)
      .where('revoked_at', 'is', null)
      .where('expires_at', '>', sql<Date>`now()`)
      .where('users.disabled_at', 'is', null)
      .executeTakeFirst()
    if (!session) throw signedOut()
    const memberships = await db
      .selectFrom('memberships')
      .select(['organization_id', 'role'])
      .where('user_id', '=', session.user_id)
      .orderBy('organization_id')
      .execute()
    noteUse(session.id)
    return {
      credential: `session:${session.id}`,
      actor: session.email,
      user_id: session.user_id,
      grants: memberships.map(({ organization_id, role }) => ({ organization_id, right: rightOfRole[role as Role] })),
      only_project_id: null,
    }
  }

  /** By the minute, and never waited for. */
  function noteUse(id: string) {
    if (now() - (noted.get(id) ?? 0) < 60_000) return
    if (noted.size > 10_000) noted.clear()
    noted.set(id, now())
    sql`update sessions set last_seen_at = now(), expires_at = now() + make_interval(secs => ${sessionLifetime}) where id = (
          select id from sessions where id = ${id} and revoked_at is null for update skip locked)`
      .execute(db)
      .catch(() => noted.delete(id))
  }

  return {
    async authenticate(text) {
      if (!/^[\w-]{43}$/.test(text)) throw signedOut()
      return lookup.find(text)
    },
    forgetAll: lookup.forgetAll,
  }
}

const signedOut = () => new AppError('unauthenticated', 'Nobody is signed in: sign in, or send an API token')

export async function listSessions(db: Db, userId: string) {
  return db
    .selectFrom('sessions')
    .select(['id', 'created_at', 'last_seen_at', 'expires_at', 'address', 'user_agent'])
    .where('user_id', '=', userId)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', sql<Date>`now()`)
    .orderBy('last_seen_at', 'desc')
    .limit(100)
    .execute()
}

/** Of this user alone; false when there is none. */
export async function revokeSession(db: Db, userId: string, id: string): Promise<boolean> {
  const done = await db
    .updateTable('sessions')
    .set({ revoked_at: sql<Date>`now()` })
    .where('id', '=', id)
    .where('user_id', '=', userId)
    .where('revoked_at', 'is', null)
    .executeTakeFirst()
  return done.numUpdatedRows > 0n
}

/** The one that a cookie stands for: at sign-out, and when somebody signs in anew. */
export async function revokeCookie(db: Db, text: string): Promise<void> {
  await db
    .updateTable('sessions')
    .set({ revoked_at: sql<Date>`now()` })
    .where('token_hash', '=', hashOf(text))
    .where('revoked_at', 'is', null)
    .execute()
}

export async function revokeAllSessions(db: Db, userId: string): Promise<void> {
  await db
    .updateTable('sessions')
    .set({ revoked_at: sql<Date>`now()` })
    .where('user_id', '=', userId)
    .where('revoked_at', 'is', null)
    .execute()
}
