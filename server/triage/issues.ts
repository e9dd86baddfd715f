// What people do with issues: each action is one ordinary UPDATE or DELETE, whose trigger counts, records and tells it.
// The same statement typed into psql does the same.

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'

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

/**
 * The number of issues that changed: 0 when it was so already, or is gone. Throws conflict while somebody's open
 * transaction holds the issue.
 */
export async function actOnIssue(db: Db, action: IssueActionName, act: Act): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await db.transaction().execute((trx) => change(trx, action, act))
    } catch (error) {
      const code = (error as { code?: unknown }).code
      if (code === lockNotAvailable) {
        throw new AppError(
          'conflict',
          'An open transaction in the database holds this issue: try again when it has ended',
          {
            cause: error,
          },
        )
      }
      if ((code !== deadlock && code !== serialization) || attempt === 5) throw error
    }
  }
}

const lockNotAvailable = '55P03'
const deadlock = '40P01'
const serialization = '40001'

async function change(trx: Db, action: IssueActionName, act: Act): Promise<number> {
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
  const assigned_to = act.assigned_to ?? null
  const changed =
    action === 'assign'
      ? issue.set({ assigned_to }).where('assigned_to', 'is distinct from', assigned_to)
      : issue.set({ status: statusOf[action] }).where('status', '<>', statusOf[action])
  const done = await changed.executeTakeFirst()
  return Number(done.numUpdatedRows)
}
