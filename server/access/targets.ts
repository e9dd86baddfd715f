// What a request names, found among what its sender may see. What that is not does not exist for it: no answer tells a
// stranger which ids do.

import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { type Access, includes, type Right, rightIn } from './access.ts'

export interface Organization {
  id: string
  slug: string
  name: string
}

export interface Project {
  id: string
  slug: string
  name: string
  organization_id: string
}

export interface Targets {
  /** By id or slug. Throws not_found, and forbidden when it may be seen but not so used. */
  organization(access: Access, idOrSlug: string, need: Right): Promise<Organization>
  project(access: Access, idOrSlug: string, need: Right): Promise<Project>
  organizations(access: Access): Promise<Organization[]>
  projects(access: Access): Promise<Project[]>
}

const isId = (text: string) => /^[1-9][0-9]{0,17}$/.test(text)
/** PostgreSQL fails on text with NUL in it; what is no slug names nothing. */
const mayName = (text: string) => isId(text) || /^[a-z0-9-]{1,64}$/.test(text)

export function createTargets(db: Db): Targets {
  const asked = new Map<string, Promise<Project[]>>()

  function organizationsOf(access: Access) {
    const ids = access.only_project_id === null ? access.grants.map((grant) => grant.organization_id) : []
    return db
      .selectFrom('organizations')
      .select(['id', 'slug', 'name'])
      .where('id', 'in', ids.length > 0 ? ids : ['0'])
  }

  function projectsOf(access: Access) {
    const ids = access.grants.map((grant) => grant.organization_id)
    const query = db
      .selectFrom('projects')
      .select(['id', 'slug', 'name', 'organization_id'])
      .where('organization_id', 'in', ids.length > 0 ? ids : ['0'])
    return access.only_project_id === null ? query : query.where('id', '=', access.only_project_id)
  }

  /** A thousand dashboards that come back at once are one question. */
  function askedOnce(access: Access, idOrSlug: string): Promise<Project[]> {
    const ids = access.grants.map((grant) => grant.organization_id)
    const key = `${ids.join(',')} ${access.only_project_id} ${idOrSlug}`
    const running = asked.get(key)
    if (running) return running
    const asking = projectsOf(access)
      .where(isId(idOrSlug) ? 'id' : 'slug', '=', idOrSlug)
      .limit(2)
      .execute()
      .finally(() => asked.delete(key))
    asked.set(key, asking)
    return asking
  }

  return {
    async organization(access, idOrSlug, need) {
      const found = mayName(idOrSlug)
        ? await organizationsOf(access)
            .where(isId(idOrSlug) ? 'id' : 'slug', '=', idOrSlug)
            .executeTakeFirst()
        : undefined
      if (!found) throw new AppError('not_found', 'There is no such organization, or you may not see it')
      checkRight(access, found.id, need)
      return found
    },
    async project(access, idOrSlug, need) {
      const found = mayName(idOrSlug) ? await askedOnce(access, idOrSlug) : []
      if (found.length > 1) {
        throw new AppError('conflict', `Two of your organizations have a project "${idOrSlug}": name it by its id`)
      }
      if (!found[0]) throw new AppError('not_found', 'There is no such project, or you may not see it')
      checkRight(access, found[0].organization_id, need)
      return found[0]
    },
    organizations: (access) => organizationsOf(access).orderBy('id').execute(),
    projects: (access) => projectsOf(access).orderBy('id').execute(),
  }
}

export function checkRight(access: Access, organizationId: string, need: Right): void {
  const has = rightIn(access, organizationId)
  if (has !== null && includes(has, need)) return
  throw new AppError('forbidden', `This needs the right "${need}"; yours here is "${has ?? 'none'}"`)
}
