// Merging and taking apart: one call of a function of db/triage.sql each. Every event of the issue is written anew, which takes
// about as long as storing it did (50,000 in 8 s on a busy machine of two cores), so each call has a connection of its own, without
// the limits of people's queries; few at once.

import pg from 'pg'
import { connectionConfig, unavailable } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { createLimit } from '../limit.ts'
import { actAgain, lockTimeout } from './transaction.ts'

export interface Regrouping {
  project_id: string
  issue_id: string
  /** Recorded in issue_activity and told to subscribers. */
  actor: string
}

export interface Merges {
  /** Puts the others into this issue. Returns how many are gone. Throws not_found, unprocessable, conflict. */
  merge(into: Regrouping, issueIds: string[]): Promise<number>
  /** Takes hashes, or all that were merged with an issue, out of this one. Returns the id of the issue that has them. */
  unmerge(from: Regrouping, what: { hashes: string[] } | { issue_id: string }): Promise<string>
}

const atOnce = 2

export function createMerges(databaseUrl: string): Merges {
  const limit = createLimit(atOnce)

  async function inTransaction<T>(actor: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = new pg.Client({ ...connectionConfig(databaseUrl, 'mesher triage'), statement_timeout: 600_000 })
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query('begin')
      await client.query(lockTimeout)
      await client.query("select set_config('mesher.actor', $1, true)", [actor])
      const result = await work(client)
      await client.query('commit')
      return result
    } finally {
      await client.end().catch(() => {})
    }
  }

  const run = <T>(actor: string, work: (client: pg.Client) => Promise<T>) =>
    limit(() => actAgain(() => inTransaction(actor, work))).catch(refused)

  return {
    merge: ({ project_id, issue_id, actor }, issueIds) =>
      run(actor, async (client) => {
        const text = 'select mesher_merge_issues($1, $2, $3) as merged'
        const { rows } = await client.query<{ merged: number }>(text, [project_id, issue_id, issueIds])
        return rows[0]!.merged
      }),
    unmerge: ({ project_id, issue_id, actor }, what) =>
      run(actor, async (client) => {
        const hashes = 'hashes' in what ? what.hashes : await hashesFrom(client, project_id, issue_id, what.issue_id)
        const text = 'select mesher_unmerge($1, $2, $3) as issue_id'
        const { rows } = await client.query<{ issue_id: string }>(text, [project_id, issue_id, hashes])
        return rows[0]!.issue_id
      }),
  }
}

/** The hashes that an issue had when it was merged into this one. */
async function hashesFrom(client: pg.Client, projectId: string, issueId: string, mergedId: string): Promise<string[]> {
  const { rows } = await client.query<{ hash: string }>(
    'select hash from issue_hashes where project_id = $1 and issue_id = $2 and merged_from = $3',
    [projectId, issueId, mergedId],
  )
  if (rows.length === 0) throw new AppError('not_found', `Issue ${mergedId} was not merged into this issue`)
  return rows.map(({ hash }) => hash)
}

function refused(error: unknown): never {
  const { code, message } = error as { code?: unknown; message: string }
  if (code === 'MS005')
    throw new AppError('not_found', `${sentence(message)}: look at the issue again`, { cause: error })
  if (code === 'MS006') throw new AppError('unprocessable', sentence(message), { cause: error })
  if (error instanceof AppError) throw error
  unavailable(error)
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)
