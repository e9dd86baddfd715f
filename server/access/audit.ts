// Who changed who may do what. Written in the transaction of the change.

import type { Db } from '../db/pool.ts'

export interface AuditEntry {
  organization_id: string
  actor: string
  /** `<thing>.<what>`: project.create, member.role, key.revoke. */
  action: string
  target: string
  data?: Record<string, unknown>
  address?: string
}

export async function recordAudit(trx: Db, { data, ...entry }: AuditEntry): Promise<void> {
  await trx
    .insertInto('audit_log')
    .values({ ...entry, data: data ? JSON.stringify(data) : null })
    .execute()
}

export async function listAudit(db: Db, organizationId: string, { limit, cursor }: { limit: number; cursor?: string }) {
  let query = db
    .selectFrom('audit_log')
    .select(['id', 'actor', 'action', 'target', 'data', 'address', 'created_at'])
    .where('organization_id', '=', organizationId)
    .orderBy('id', 'desc')
    .limit(limit + 1)
  if (cursor) query = query.where('id', '<', cursor)
  const rows = await query.execute()
  const data = rows.slice(0, limit)
  return { data, next_cursor: rows.length > limit ? data.at(-1)!.id : null }
}
