// The first start: an organization, a project with its key, and an API token, so that an SDK can be pointed at Mesher at
// once. On a database that has an organization nothing is done.

import { randomBytes } from 'node:crypto'
import { createToken } from '../access/tokens.ts'
import type { Db } from './pool.ts'

export interface FirstStart {
  project_id: string
  public_key: string
  /** Shown once; the database keeps its hash only. */
  token: string
}

/** Null when this is not the first start. Safe when several processes start at once. */
export async function bootstrap(db: Db): Promise<FirstStart | null> {
  return db.transaction().execute(async (trx) => {
    const organization = await trx
      .insertInto('organizations')
      .values({ slug: 'default', name: 'Default' })
      .onConflict((conflict) => conflict.column('slug').doNothing())
      .returning('id')
      .executeTakeFirst()
    if (!organization) return null
    const others = await trx
      .selectFrom('organizations')
      .select('id')
      .where('id', '<>', organization.id)
      .executeTakeFirst()
    if (others) {
      await trx.deleteFrom('organizations').where('id', '=', organization.id).execute()
      return null
    }
    const project = await trx
      .insertInto('projects')
      .values({ organization_id: organization.id, slug: 'app', name: 'App' })
      .returning('id')
      .executeTakeFirstOrThrow()
    const public_key = randomBytes(16).toString('hex')
    await trx.insertInto('project_keys').values({ public_key, project_id: project.id }).execute()
    const token = await createToken(trx, { organization_id: organization.id, name: 'first start', scope: 'admin' })
    return { project_id: project.id, public_key, token: token.text }
  })
}
