// Organizations: whose projects these are, and who is a member.

import type { Organization } from '../access/targets.ts'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { type By, inTheNameOf } from './act.ts'
import { isUniqueViolation } from './unique.ts'

export interface OrganizationChange {
  slug?: string | undefined
  name?: string | undefined
}

/** Whoever makes one owns it. */
export function createOrganization(
  db: Db,
  by: By,
  userId: string,
  values: { slug: string; name: string },
): Promise<Organization> {
  return inTheNameOf(db, by, async (trx, record) => {
    const made = await trx
      .insertInto('organizations')
      .values(values)
      .returning(['id', 'slug', 'name'])
      .executeTakeFirstOrThrow()
      .catch(slugTaken)
    await trx.insertInto('memberships').values({ organization_id: made.id, user_id: userId, role: 'owner' }).execute()
    await record({ organization_id: made.id, action: 'organization.create', target: made.slug })
    return made
  })
}

export function changeOrganization(
  db: Db,
  by: By,
  { id }: Organization,
  change: OrganizationChange,
): Promise<Organization> {
  return inTheNameOf(db, by, async (trx, record) => {
    const changed = await trx
      .updateTable('organizations')
      .set(change)
      .where('id', '=', id)
      .returning(['id', 'slug', 'name'])
      .executeTakeFirstOrThrow()
      .catch(slugTaken)
    await record({ organization_id: id, action: 'organization.update', target: changed.slug, data: { ...change } })
    return changed
  })
}

/** Only an empty one: its projects are deleted one by one, by somebody who names each. */
export function deleteOrganization(db: Db, by: By, { id }: Organization): Promise<void> {
  return inTheNameOf(db, by, async (trx) => {
    const project = await trx.selectFrom('projects').select('id').where('organization_id', '=', id).executeTakeFirst()
    if (project) throw new AppError('conflict', 'This organization has projects: delete these first')
    const other = await trx.selectFrom('organizations').select('id').where('id', '<>', id).executeTakeFirst()
    if (!other) throw new AppError('conflict', 'This is the only organization: rename it instead')
    await trx.deleteFrom('organizations').where('id', '=', id).execute()
  })
}

function slugTaken(error: unknown): never {
  if (isUniqueViolation(error)) throw new AppError('conflict', 'This slug is taken: choose another one')
  throw error
}
