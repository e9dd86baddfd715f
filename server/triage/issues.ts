// What people do with issues: each action is one ordinary UPDATE or DELETE, whose trigger counts, records and tells it.
// The same statement typed into psql does the same.

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { archivedUntil, isOtherwise, type Until } from './archive.ts'
import { actAgain, lockTimeout } from './transaction.ts'

export const issueActions = ['resolve', 'unresolve', 'archive', 'discard', 'assign', 'delete'] as const
export type IssueActionName = (typeof issueActions)[number]

export interface Act {
  project_id: string
  issue_id: string
  /** Recorded in issue_activity and told to subscribers. */
  actor: string
  /** For assign: whom; null for nobody. */
  assigned_to?: string | null
  /** For archive: when it comes back; for ever by default. */
  until?: Until
}

const statusOf = { resolve: 'resolved', unresolve: 'unresolved', discard: 'discarded' } as const

/**
 * The number of issues that changed: 0 when it was so already, or is gone. Throws conflict while somebody's open
 * transaction holds the issue.
 */
export function actOnIssue(db: Db, now: () => number, action: IssueActionName, act: Act): Promise<number> {
  return actAgain(() => db.transaction().execute((trx) => change(trx, now, action, act)))
}

async function change(trx: Db, now: () => number, action: IssueActionName, act: Act): Promise<number> {
  await sql`select set_config('mesher.actor', ${act.actor}, true)`.execute(trx)
  await sql.raw(lockTimeout).execute(trx)
  if (action === 'delete') {
    const done = await trx
      .deleteFrom('issues')
      .where('project_id', '=', act.project_id)
      .where('id', '=', act.issue_id)
      .executeTakeFirst()
    return Number(done.numDeletedRows)
  }
  const issue = trx.updateTable('issues').where('project_id', '=', act.project_id).where('id', '=', act.issue_id)
  const assigned_to = act.assigned_to ?? null
  const changed =
    action === 'assign'
      ? issue.set({ assigned_to }).where('assigned_to', 'is distinct from', assigned_to)
      : action === 'archive'
        ? issue.set(archivedUntil(act.until ?? 'forever', now())).where(isOtherwise(act.until ?? 'forever'))
        : issue.set({ status: statusOf[action] }).where('status', '<>', statusOf[action])
  const done = await changed.executeTakeFirst()
  return Number(done.numUpdatedRows)
}
