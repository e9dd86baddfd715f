// Projects and the keys with which SDKs send to them.

import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import type { Project } from '../access/targets.ts'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { type By, inTheNameOf } from './act.ts'
import { isUniqueViolation } from './unique.ts'

export interface NewProject {
  slug: string
  name: string
  platform?: string | null | undefined
}

export interface ProjectChange extends Partial<NewProject> {
  retention_days?: number | undefined
}

const settings = ['id', 'slug', 'name', 'organization_id', 'platform', 'retention_days', 'created_at'] as const

export const findProject = (db: Db, id: string) =>
  db.selectFrom('projects').select(settings).where('id', '=', id).executeTakeFirstOrThrow()

/** With a first key. */
export function createProject(db: Db, by: By, organization_id: string, values: NewProject) {
  return inTheNameOf(db, by, async (trx, record) => {
    const made = await trx
      .insertInto('projects')
      .values({ organization_id, ...values })
      .returning(settings)
      .executeTakeFirstOrThrow()
      .catch(slugTaken)
    await trx
      .insertInto('project_keys')
      .values({ public_key: newKey(), project_id: made.id, created_by: by.actor })
      .execute()
    await record({ organization_id, action: 'project.create', target: made.slug })
    return made
  })
}

export function changeProject(db: Db, by: By, { id, organization_id }: Project, change: ProjectChange) {
  return inTheNameOf(db, by, async (trx, record) => {
    const changed = await trx
      .updateTable('projects')
      .set(change)
      .where('id', '=', id)
      .returning(settings)
      .executeTakeFirst()
      .catch(slugTaken)
    if (!changed) throw gone()
    await record({ organization_id, action: 'project.update', target: changed.slug, data: { ...change } })
    return changed
  })
}

/** With everything in it. */
export function deleteProject(db: Db, by: By, { id, organization_id, slug }: Project): Promise<void> {
  return inTheNameOf(db, by, async (trx, record) => {
    await record({ organization_id, action: 'project.delete', target: slug, data: { id } })
    await trx.deleteFrom('projects').where('id', '=', id).execute()
  })
}

export const listKeys = (db: Db, projectId: string) =>
  db
    .selectFrom('project_keys')
    .select(['public_key', 'label', 'created_at', 'created_by', 'last_used_at', 'revoked_at'])
    .where('project_id', '=', projectId)
    .orderBy('created_at')
    .orderBy('public_key')
    .limit(1_000)
    .execute()

const keyFields = ['public_key', 'label', 'created_at', 'created_by', 'last_used_at', 'revoked_at'] as const

export function createKey(db: Db, by: By, project: Project, label: string) {
  return inTheNameOf(db, by, async (trx, record) => {
    const made = await trx
      .insertInto('project_keys')
      .values({ public_key: newKey(), project_id: project.id, label, created_by: by.actor })
      .returning(keyFields)
      .executeTakeFirstOrThrow()
    await record({ ...named(project), action: 'key.create', data: { key: made.public_key, label } })
    return made
  })
}

export function changeKey(db: Db, by: By, project: Project, publicKey: string, label: string) {
  return inTheNameOf(db, by, async (trx, record) => {
    const changed = await trx
      .updateTable('project_keys')
      .set({ label })
      .where('project_id', '=', project.id)
      .where('public_key', '=', publicKey)
      .returning(keyFields)
      .executeTakeFirst()
    if (!changed) throw noKey()
    await record({ ...named(project), action: 'key.update', data: { key: publicKey, label } })
    return changed
  })
}

/** For good: who has it must be given another one. */
export function revokeKey(db: Db, by: By, project: Project, publicKey: string): Promise<void> {
  return inTheNameOf(db, by, async (trx, record) => {
    const done = await trx
      .updateTable('project_keys')
      .set({ revoked_at: sql<Date>`coalesce(revoked_at, now())` })
      .where('project_id', '=', project.id)
      .where('public_key', '=', publicKey)
      .executeTakeFirst()
    if (done.numUpdatedRows === 0n) throw noKey()
    await record({ ...named(project), action: 'key.revoke', data: { key: publicKey } })
  })
}

const named = ({ organization_id, slug }: Project) => ({ organization_id, target: slug })

const newKey = () => randomBytes(16).toString('hex')

const noKey = () => new AppError('not_found', 'This project has no such key')
const gone = () => new AppError('not_found', 'This project was deleted meanwhile')

function slugTaken(error: unknown): never {
  if (isUniqueViolation(error)) {
    throw new AppError('conflict', 'This organization has a project with this slug: choose another one')
  }
  throw error
}
