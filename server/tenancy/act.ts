// In whose name something is changed, and the transaction that changes it: its actor is told to channel mesher and to
// issue_activity by triggers, and stands in the audit log.

import { sql } from 'kysely'
import { type AuditEntry, recordAudit } from '../access/audit.ts'
import type { Db } from '../db/pool.ts'

export interface By {
  actor: string
  address: string
}

export type Record = (entry: Omit<AuditEntry, 'actor' | 'address'>) => Promise<void>

export function inTheNameOf<T>(db: Db, by: By, work: (trx: Db, record: Record) => Promise<T>): Promise<T> {
  return db.transaction().execute(async (trx) => {
    await sql`select set_config('mesher.actor', ${by.actor}, true)`.execute(trx)
    await sql`set local lock_timeout = '5s'`.execute(trx)
    return work(trx, (entry) => recordAudit(trx, { ...entry, ...by }))
  })
}
