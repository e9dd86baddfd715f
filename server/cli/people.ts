// What the commands change in the database: people, projects, keys and tokens. For whoever has the machine, so nobody is asked
// who they are; the audit log says `command line`.

import type { Role, Scope } from '../access/access.ts'
import { createReset, createUser, emailFrom } from '../access/accounts.ts'
import { createLink } from '../access/links.ts'
import type { Organization, Project } from '../access/targets.ts'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { inTheNameOf } from '../tenancy/act.ts'
import * as projects from '../tenancy/projects.ts'
import * as tokens from '../tenancy/tokens.ts'

const by = { actor: 'command line', address: '' }

/** By id or slug; without a name the only one there is. */
export async function findOrganization(db: Db, name?: string): Promise<Organization> {
  const query = db.selectFrom('organizations').select(['id', 'slug', 'name'])
  const found = await (name === undefined ? query : query.where(/^\d+$/.test(name) ? 'id' : 'slug', '=', name))
    .limit(2)
    .execute()
  if (found.length === 1) return found[0]!
  throw found.length === 0
    ? new AppError(
        'not_found',
        name ? `There is no organization ${name}.` : 'There is no organization: start Mesher first.',
      )
    : new AppError('bad_request', 'There is more than one organization: name it with --organization.')
}

export async function findProject(db: Db, name: string): Promise<Project> {
  const found = await db
    .selectFrom('projects')
    .select(['id', 'slug', 'name', 'organization_id'])
    .where(/^\d+$/.test(name) ? 'id' : 'slug', '=', name)
    .limit(2)
    .execute()
  if (found.length === 1) return found[0]!
  throw found.length === 0
    ? new AppError('not_found', `There is no project ${name}.`)
    : new AppError('bad_request', `More than one organization has a project ${name}: name it by its id.`)
}

/** Returns the secret part of the link with which the new user chooses a password. */
export async function addUser(
  db: Db,
  values: { email: string; name: string | undefined; role: Role; organization: string | undefined },
): Promise<string> {
  const email = emailFrom(values.email)
  if (email === null) throw new AppError('bad_request', `${values.email} is no e-mail address of plain ASCII letters.`)
  const { id: organization_id } = await findOrganization(db, values.organization)
  return inTheNameOf(db, by, async (trx, record) => {
    const user = await createUser(trx, { email, name: values.name ?? email, password_hash: null })
    await trx.insertInto('memberships').values({ organization_id, user_id: user.id, role: values.role }).execute()
    await record({ organization_id, action: 'member.create', target: email, data: { role: values.role } })
    return (await createLink(trx, { purpose: 'reset', user_id: user.id }, by.actor)).text
  })
}

export const resetUser = (db: Db, email: string) => createReset(db, email, by.actor)

export async function addProject(db: Db, values: { slug: string; name: string; organization: string | undefined }) {
  if (!/^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/.test(values.slug) || /^[0-9]+$/.test(values.slug)) {
    throw new AppError('bad_request', 'A slug has lower-case letters, digits and hyphens, and is no number.')
  }
  const { id } = await findOrganization(db, values.organization)
  const project = await projects.createProject(db, by, id, { slug: values.slug, name: values.name })
  return { project, keys: await projects.listKeys(db, project.id) }
}

export const listKeys = async (db: Db, name: string) => {
  const project = await findProject(db, name)
  return { project, keys: await projects.listKeys(db, project.id) }
}

export const addKey = async (db: Db, name: string, label: string) => {
  const project = await findProject(db, name)
  return { project, key: await projects.createKey(db, by, project, label) }
}

export const revokeKey = async (db: Db, name: string, publicKey: string) =>
  projects.revokeKey(db, by, await findProject(db, name), publicKey)

export async function addToken(
  db: Db,
  values: { name: string; scope: Scope; project: string | undefined; organization: string | undefined },
) {
  const project = values.project === undefined ? null : await findProject(db, values.project)
  const organization_id = project?.organization_id ?? (await findOrganization(db, values.organization)).id
  const { name, scope } = values
  return tokens.makeToken(db, by, organization_id, { name, scope, project_id: project?.id ?? null, expires_at: null })
}

export async function revokeToken(db: Db, id: string): Promise<void> {
  const token = /^\d{1,18}$/.test(id)
    ? await db.selectFrom('api_tokens').select('organization_id').where('id', '=', id).executeTakeFirst()
    : undefined
  if (!token) throw new AppError('not_found', `There is no token ${id}: mesher token list names them.`)
  return tokens.revokeToken(db, by, token.organization_id, id)
}

export const listTokens = async (db: Db, organization?: string) =>
  tokens.listTokens(db, (await findOrganization(db, organization)).id)
