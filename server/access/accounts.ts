// People and how they get in: the first owner, sign-in, forgotten passwords, invitations. What is answered tells nobody
// whether an account exists.

import { timingSafeEqual } from 'node:crypto'
import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import type { Role } from './access.ts'
import { recordAudit } from './audit.ts'
import { createLink, findLink, useLink } from './links.ts'
import { hashOf } from './lookup.ts'
import { checkPassword, type Passwords } from './passwords.ts'
import { createSession, revokeAllSessions, type Visitor } from './sessions.ts'
import type { Throttle } from './throttle.ts'

export interface User {
  id: string
  email: string
  name: string
}

export interface Accounts {
  /** Nobody has an account yet: the next visitor makes the owner's. */
  needsSetup(): Promise<boolean>
  /** Returns a session. Throws conflict when somebody was faster, forbidden without the console's token where one is asked for. */
  setUp(owner: NewPerson & { setup_token?: string | undefined }, visitor: Visitor): Promise<string>
  /** Throws unauthenticated, or rate_limited after many failures. */
  signIn(email: string, password: string, visitor: Visitor): Promise<string>
  /** Ends all sessions of the user; returns a new one. */
  changePassword(userId: string, current: string, next: string, visitor: Visitor): Promise<string>
  /** With the secret part of a link. */
  resetPassword(link: string, password: string, visitor: Visitor): Promise<string>
  invitation(link: string): Promise<{ email: string; organization: string; role: Role; has_account: boolean }>
  /** Who has an account proves it with its password; everybody else gets one. */
  accept(link: string, person: { name?: string | undefined; password: string }, visitor: Visitor): Promise<string>
  find(userId: string): Promise<User>
}

export interface NewPerson {
  email: string
  name: string
  password: string
}

/**
 * One spelling of each address: ASCII, lower case. Letters of other scripts that look like Latin ones would make two
 * accounts that nobody can tell apart. Null when it is none.
 */
export function emailFrom(text: string): string | null {
  const email = text.trim().toLowerCase()
  return email.length <= 254 &&
    /^[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?$/.test(email)
    ? email
    : null
}

export interface AccountDeps {
  db: Db
  passwords: Passwords
  throttle: Throttle
  /** Printed on the console of a server that others can reach; null when the first visitor sits at this machine. */
  setupToken: string | null
}

export function createAccounts({ db, passwords, throttle, setupToken }: AccountDeps): Accounts {
  async function isEmpty(trx: Db): Promise<boolean> {
    return (await trx.selectFrom('users').select('id').limit(1).executeTakeFirst()) === undefined
  }

  const byEmail = (trx: Db, email: string) =>
    trx
      .selectFrom('users')
      .select(['id', 'email', 'name', 'password_hash', 'disabled_at'])
      .where('email', '=', email)
      .executeTakeFirst()

  /** Hashed before the transaction: it would hold its connection while it waits for its turn. */
  async function checkedHash(password: string, email: string): Promise<string> {
    checkPassword(password, email)
    return passwords.hash(password)
  }

  async function setPassword(trx: Db, userId: string, password_hash: string): Promise<void> {
    await trx.updateTable('users').set({ password_hash }).where('id', '=', userId).execute()
    await revokeAllSessions(trx, userId)
  }

  const find = async (userId: string) =>
    db.selectFrom('users').select(['id', 'email', 'name']).where('id', '=', userId).executeTakeFirstOrThrow()

  return {
    find,
    needsSetup: () => isEmpty(db),

    async setUp({ setup_token, ...owner }, visitor) {
      if (!(await isEmpty(db))) throw new AppError('conflict', 'This server has its owner: sign in')
      if (setupToken !== null && !sameText(setup_token ?? '', setupToken)) {
        throw new AppError('forbidden', 'Give the set-up token that the server printed on its console')
      }
      const password_hash = await checkedHash(owner.password, owner.email)
      return db.transaction().execute(async (trx) => {
        await sql`select pg_advisory_xact_lock(hashtext('mesher.set_up'))`.execute(trx)
        if (!(await isEmpty(trx))) throw new AppError('conflict', 'This server has its owner: sign in')
        const user = await createUser(trx, { ...owner, password_hash })
        const organizations = await trx.selectFrom('organizations').select('id').execute()
        for (const { id: organization_id } of organizations) {
          await trx.insertInto('memberships').values({ organization_id, user_id: user.id, role: 'owner' }).execute()
          await recordAudit(trx, {
            organization_id,
            actor: user.email,
            action: 'member.set_up',
            target: user.email,
            address: visitor.address,
          })
        }
        return createSession(trx, user.id, visitor)
      })
    },

    async signIn(text, password, visitor) {
      const email = emailFrom(text) ?? ''
      await throttle.begin(email, visitor.address)
      const user = email === '' ? undefined : await byEmail(db, email)
      const matches = await passwords.verify(password, user?.password_hash ?? null)
      if (!user || !matches || user.disabled_at !== null) {
        throw new AppError('unauthenticated', 'E-mail address or password are wrong')
      }
      await throttle.succeeded(email, visitor.address)
      return createSession(db, user.id, visitor)
    },

    async changePassword(userId, current, next, visitor) {
      const user = await find(userId)
      await throttle.begin(user.email, visitor.address)
      const known = await byEmail(db, user.email)
      if (!(await passwords.verify(current, known?.password_hash ?? null))) {
        throw new AppError('forbidden', 'The current password is another one')
      }
      await throttle.succeeded(user.email, visitor.address)
      const password_hash = await checkedHash(next, user.email)
      return db.transaction().execute(async (trx) => {
        await setPassword(trx, userId, password_hash)
        return createSession(trx, userId, visitor)
      })
    },

    async resetPassword(link, password, visitor) {
      const { id, user_id } = await findLink(db, 'reset', link)
      const user = await find(user_id!)
      const password_hash = await checkedHash(password, user.email)
      return db.transaction().execute(async (trx) => {
        await useLink(trx, id)
        await setPassword(trx, user.id, password_hash)
        return createSession(trx, user.id, visitor)
      })
    },

    async invitation(link) {
      const found = await findLink(db, 'invite', link)
      const organization = await db
        .selectFrom('organizations')
        .select('name')
        .where('id', '=', found.organization_id)
        .executeTakeFirstOrThrow()
      const user = await byEmail(db, found.email!)
      return { email: found.email!, organization: organization.name, role: found.role!, has_account: !!user }
    },

    async accept(link, person, visitor) {
      const { id, email, role, organization_id } = await findLink(db, 'invite', link)
      const known = await byEmail(db, email!)
      if (known) {
        await throttle.begin(email!, visitor.address)
        const matches = await passwords.verify(person.password, known.password_hash)
        if (!matches || known.disabled_at !== null) {
          throw new AppError('unauthenticated', 'This address has an account: join with its password')
        }
        await throttle.succeeded(email!, visitor.address)
      }
      const password_hash = known ? null : await checkedHash(person.password, email!)
      return db.transaction().execute(async (trx) => {
        await useLink(trx, id)
        const user = known ?? (await createUser(trx, { email: email!, name: person.name || email!, password_hash }))
        await trx
          .insertInto('memberships')
          .values({ organization_id: organization_id!, user_id: user.id, role: role! })
          .onConflict((conflict) => conflict.doNothing())
          .execute()
        await recordAudit(trx, {
          organization_id: organization_id!,
          actor: email!,
          action: 'member.join',
          target: email!,
          data: { role },
          address: visitor.address,
        })
        return createSession(trx, user.id, visitor)
      })
    },
  }
}

/** Throws conflict when the address is taken. */
export async function createUser(
  trx: Db,
  { email, name, password_hash }: { email: string; name: string; password_hash: string | null },
): Promise<User> {
  const user = await trx
    .insertInto('users')
    .values({ email, name, password_hash })
    .onConflict((conflict) => conflict.column('email').doNothing())
    .returning(['id', 'email', 'name'])
    .executeTakeFirst()
  if (!user) throw new AppError('conflict', 'This address has an account already')
  return user
}

/** What the command line prints: the secret part of a link with which a user chooses a new password. */
export async function createReset(db: Db, text: string, created_by: string): Promise<string> {
  const email = emailFrom(text)
  const user = email && (await db.selectFrom('users').select('id').where('email', '=', email).executeTakeFirst())
  if (!user) throw new AppError('not_found', `Nobody has the address ${text}`)
  return (await createLink(db, { purpose: 'reset', user_id: user.id }, created_by)).text
}

/** Hashed first, so that neither length nor contents tell by time. */
function sameText(one: string, other: string): boolean {
  return timingSafeEqual(hashOf(one), hashOf(other))
}
