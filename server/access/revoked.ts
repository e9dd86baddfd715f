// What may not be used any more: asked of the tables about what is in use, because notifications of a time without a
// listener are lost, and anybody who may connect to the database can send one.

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'

/** One who follows a project's stream. */
export interface Follower {
  /** `token:12` or `session:34`. */
  credential: string
  project_id: string
}

export interface InUse {
  followers: Follower[]
  keys: string[]
}

/** Those that are revoked, expired or gone, or whose user is no member any more. */
export async function findRevoked(db: Db, { followers, keys }: InUse): Promise<InUse> {
  const valid = new Set([...(await validTokens(db, followers)), ...(await validSessions(db, followers))])
  const validKeys = new Set<string>()
  if (keys.length > 0) {
    const rows = await db
      .selectFrom('project_keys')
      .select('public_key')
      .where('public_key', 'in', keys)
      .where('revoked_at', 'is', null)
      .execute()
    for (const { public_key } of rows) validKeys.add(public_key)
  }
  return {
    followers: followers.filter((follower) => !valid.has(keyOf(follower))),
    keys: keys.filter((key) => !validKeys.has(key)),
  }
}

const keyOf = ({ credential, project_id }: Follower) => `${credential} ${project_id}`

/** Ids of one kind of credential and their projects, as two parallel arrays. */
function pairs(followers: Follower[], kind: string): { ids: string[]; projects: string[] } {
  const of = followers.filter(({ credential }) => credential.startsWith(kind))
  return { ids: of.map(({ credential }) => credential.slice(kind.length)), projects: of.map((one) => one.project_id) }
}

async function validTokens(db: Db, followers: Follower[]): Promise<string[]> {
  const { ids, projects } = pairs(followers, 'token:')
  if (ids.length === 0) return []
  const { rows } = await sql<Follower>`
    select 'token:' || t.id as credential, p.id as project_id
      from unnest(${ids}::bigint[], ${projects}::bigint[]) as f(token_id, project_id)
      join api_tokens t on t.id = f.token_id
      join projects p on p.id = f.project_id and p.organization_id = t.organization_id
     where t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
       and (t.only_project_id is null or t.only_project_id = p.id)`.execute(db)
  return rows.map(keyOf)
}

async function validSessions(db: Db, followers: Follower[]): Promise<string[]> {
  const { ids, projects } = pairs(followers, 'session:')
  if (ids.length === 0) return []
  const { rows } = await sql<Follower>`
    select 'session:' || s.id as credential, p.id as project_id
      from unnest(${ids}::bigint[], ${projects}::bigint[]) as f(session_id, project_id)
      join sessions s on s.id = f.session_id
      join users u on u.id = s.user_id
      join projects p on p.id = f.project_id
      join memberships m on m.user_id = u.id and m.organization_id = p.organization_id
     where s.revoked_at is null and s.expires_at > now() and u.disabled_at is null`.execute(db)
  return rows.map(keyOf)
}
