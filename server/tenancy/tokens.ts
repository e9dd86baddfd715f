// API tokens of an organization, as its admins see them: never the token itself, which is shown once.

import { sql } from 'kysely'
import type { Scope } from '../access/access.ts'
import { createToken } from '../access/tokens.ts'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { type By, inTheNameOf } from './act.ts'

export interface TokenRequest {
  name: string
  scope: Scope
  /** One project of the organization, by id; null for all. */
  project_id: string | null
  expires_at: Date | null
}

const listed = (db: Db, organizationId: string) =>
  db
    .selectFrom('api_tokens')
    .select(['id', 'name', 'hint', 'scope', 'only_project_id as project_id', 'created_by', 'created_at'])
    .select(['last_used_at', 'expires_at'])
    .where('organization_id', '=', organizationId)
    .where('revoked_at', 'is', null)

export const listTokens = (db: Db, organizationId: string) =>
  listed(db, organizationId).orderBy('id').limit(1_000).execute()

export function makeToken(db: Db, by: By, organization_id: string, request: TokenRequest) {
  return inTheNameOf(db, by, async (trx, record) => {
    const { project_id: only_project_id, ...values } = request
    if (only_project_id !== null) {
      const project = await trx
        .selectFrom('projects')
        .select('id')
        .where('organization_id', '=', organization_id)
        .where('id', '=', only_project_id)
        .executeTakeFirst()
      if (!project) throw new AppError('unprocessable', 'This organization has no such project')
    }
    const made = await createToken(trx, { ...values, organization_id, only_project_id, created_by: by.actor })
    await record({
      organization_id,
      action: 'token.create',
      target: request.name,
      data: { id: made.id, scope: request.scope, project_id: only_project_id },
    })
    return {
      ...(await listed(trx, organization_id).where('id', '=', made.id).executeTakeFirstOrThrow()),
      text: made.text,
    }
  })
}

export function revokeToken(db: Db, by: By, organization_id: string, id: string): Promise<void> {
  return inTheNameOf(db, by, async (trx, record) => {
    const revoked = await trx
      .updateTable('api_tokens')
      .set({ revoked_at: sql<Date>`now()` })
      .where('organization_id', '=', organization_id)
      .where('id', '=', id)
      .where('revoked_at', 'is', null)
      .returning('name')
      .executeTakeFirst()
    if (!revoked) throw new AppError('not_found', 'This organization has no such token')
    await record({ organization_id, action: 'token.revoke', target: revoked.name, data: { id } })
  })
}
