// What people do with issues: each action is one ordinary UPDATE or DELETE, whose trigger counts, records and tells it.
// The same statement typed into psql does the same.

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'

export const issueActions = ['resolve', 'unresolve', 'archive', 'discard', 'assign', 'delete'] as const
export type IssueActionName = (typeof issueActions)[number]

export interface Act {
  project_id: string
  issue_id: string
  /** Recorded in issue_activity and told to subscribers. */
  actor: string
  /** For assign: whom; null for nobody. */
  assigned_to?: string | null
}

const statusOf = { resolve: 'resolved', unresolve: 'unresolved', archive: 'archived', discard: 'discarded' } as const

/** The number of issues that changed: 0 when it was so already, or is gone. */
export async function actOnIssue(db: Db, action: IssueActionName, act: Act): Promise<number> {
  return db.transaction().execute(async (trx) => {
    await sql`select set_config('mesher.actor', ${act.actor}, true)`.execute(trx)
    // Somebody's open transaction is not waited for without end.
    await sql`set local lock_timeout = '5s'`.execute(trx)
    if (action === 'delete') {
      const done = await trx
        .deleteFrom('issues')
        .where('project_id', '=', act.project_id)
        .where('id', '=', act.issue_id)
        .executeTakeFirst()
      return Number(done.numDeletedRows)
    }
    const issue = trx.updateTable('issues').where('project_id', '=', act.project_id).where('id', '=', act.issue_id)
    const changed =
      action === 'assign'
        ? issue
            .set({ assigned_to: act.assigned_to ?? null })
            .where('assigned_to', 'is distinct from', act.assigned_to ?? null)
        : issue.set({ status: statusOf[action] }).where('status', '<>', statusOf[action])
    const done = await changed.executeTakeFirst()
    return Number(done.numUpdatedRows)
  })
}
