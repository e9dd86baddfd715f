// Members of an organization and who was invited. An organization always has an owner; only owners make or unmake one.

import { sql } from 'kysely'
import type { Right, Role } from '../access/access.ts'
import { emailFrom } from '../access/accounts.ts'
import { createLink } from '../access/links.ts'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { type By, inTheNameOf } from './act.ts'

export interface Member {
  user_id: string
  email: string
  name: string
  role: Role
  created_at: Date
}

const members = (db: Db, organizationId: string) =>
  db
    .selectFrom('memberships')
    .innerJoin('users', 'users.id', 'memberships.user_id')
    .select(['user_id', 'email', 'name', sql<Role>`role`.as('role'), 'memberships.created_at'])
    .where('organization_id', '=', organizationId)

export const listMembers = (db: Db, organizationId: string): Promise<Member[]> =>
  members(db, organizationId).orderBy('memberships.created_at').limit(1_000).execute()

export interface Organized {
  organization_id: string
  /** Of who changes it. */
  right: Right
}

export function setRole(db: Db, by: By, { organization_id, right }: Organized, userId: string, role: Role) {
  return inTheNameOf(db, by, async (trx, record) => {
    const member = await lockedMember(trx, organization_id, userId)
    if ((member.role === 'owner' || role === 'owner') && right !== 'owner') throw ownersOnly()
    if (member.role === 'owner' && role !== 'owner') await checkOtherOwner(trx, organization_id, userId)
    await trx
      .updateTable('memberships')
      .set({ role })
      .where('organization_id', '=', organization_id)
      .where('user_id', '=', userId)
      .execute()
    await record({
      organization_id,
      action: 'member.role',
      target: member.email,
      data: { from: member.role, to: role },
    })
    return { ...member, role }
  })
}

export function removeMember(db: Db, by: By, { organization_id, right }: Organized, userId: string): Promise<void> {
  return inTheNameOf(db, by, async (trx, record) => {
    const member = await lockedMember(trx, organization_id, userId)
    if (member.role === 'owner' && right !== 'owner') throw ownersOnly()
    if (member.role === 'owner') await checkOtherOwner(trx, organization_id, userId)
    await trx
      .deleteFrom('memberships')
      .where('organization_id', '=', organization_id)
      .where('user_id', '=', userId)
      .execute()
    await record({ organization_id, action: 'member.remove', target: member.email, data: { role: member.role } })
  })
}

/** All owners are locked, in one order: two who unmake each other at once must not both succeed. */
async function lockedMember(trx: Db, organizationId: string, userId: string): Promise<Member> {
  await trx
    .selectFrom('memberships')
    .select('user_id')
    .where('organization_id', '=', organizationId)
    .where((where) => where.or([where('role', '=', 'owner'), where('user_id', '=', userId)]))
    .orderBy('user_id')
    .forUpdate()
    .execute()
  const member = await members(trx, organizationId).where('user_id', '=', userId).executeTakeFirst()
  if (!member) throw new AppError('not_found', 'This organization has no such member')
  return member
}

async function checkOtherOwner(trx: Db, organizationId: string, userId: string): Promise<void> {
  const other = await members(trx, organizationId)
    .where('role', '=', 'owner')
    .where('user_id', '<>', userId)
    .executeTakeFirst()
  if (!other) throw new AppError('conflict', 'This is the only owner: make somebody else one first')
}

const ownersOnly = () => new AppError('forbidden', 'Only an owner makes or unmakes an owner')

/** Returns the secret part of the link that the invited person opens; it is shown once. */
export function invite(
  db: Db,
  by: By,
  { organization_id, right }: Organized,
  { email: text, role }: { email: string; role: Role },
): Promise<{ id: string; email: string; role: Role; text: string }> {
  const email = emailFrom(text)
  if (email === null) {
    throw new AppError('unprocessable', 'This is no e-mail address that Mesher takes: one of plain ASCII letters')
  }
  if (role === 'owner' && right !== 'owner') throw ownersOnly()
  return inTheNameOf(db, by, async (trx, record) => {
    const member = await members(trx, organization_id).where('email', '=', email).executeTakeFirst()
    if (member) throw new AppError('conflict', `${email} is a member already`)
    await withdraw(trx, organization_id, email)
    const link = await createLink(trx, { purpose: 'invite', organization_id, email, role }, by.actor)
    await record({ organization_id, action: 'member.invite', target: email, data: { role } })
    return { ...link, email, role }
  })
}

const open = (db: Db, organizationId: string) =>
  db
    .selectFrom('one_time_links')
    .select(['id', 'email', sql<Role>`role`.as('role'), 'created_by', 'created_at', 'expires_at'])
    .where('organization_id', '=', organizationId)
    .where('purpose', '=', 'invite')
    .where('used_at', 'is', null)
    .where('expires_at', '>', sql<Date>`now()`)

export const listInvitations = (db: Db, organizationId: string) =>
  open(db, organizationId).orderBy('id', 'desc').limit(1_000).execute()

export function withdrawInvitation(db: Db, by: By, organization_id: string, id: string): Promise<void> {
  return inTheNameOf(db, by, async (trx, record) => {
    const link = await open(trx, organization_id).where('id', '=', id).executeTakeFirst()
    if (!link) throw new AppError('not_found', 'This organization has no such invitation')
    await withdraw(trx, organization_id, link.email!)
    await record({ organization_id, action: 'member.withdraw', target: link.email! })
  })
}

async function withdraw(trx: Db, organizationId: string, email: string): Promise<void> {
  await trx
    .updateTable('one_time_links')
    .set({ used_at: sql<Date>`now()` })
    .where('organization_id', '=', organizationId)
    .where('email', '=', email)
    .where('used_at', 'is', null)
    .execute()
}
