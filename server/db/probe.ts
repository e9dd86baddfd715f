// What /readyz asks the database: whether it answers, who holds up a writer, how full the notification queue is.

import type pg from 'pg'
import type { BlockingSession } from '../write/blocked.ts'

/** Who holds the lock that the backend `pid` waits for, the one at the end of the line. Null when it does not wait. */
export async function findBlocker(pool: pg.Pool, pid: number): Promise<BlockingSession | null> {
  const { rows } = await pool.query(
    `select pid, usename as role, application_name as application, state, left(query, 200) as query
       from pg_stat_activity where pid = any (pg_blocking_pids($1)) order by xact_start limit 1`,
    [pid],
  )
  return rows[0] ?? null
}

/** Those of these fingerprint hashes that belong to issues of the project. */
export async function findKnownHashes(pool: pg.Pool, projectId: string, hashes: string[]): Promise<Set<string>> {
  const { rows } = await pool.query<{ hash: string }>(
    'select hash from issue_hashes where project_id = $1 and hash = any ($2::uuid[])',
    [projectId, hashes],
  )
  return new Set(rows.map((row) => row.hash.replaceAll('-', '')))
}

export interface DatabaseProbe {
  ok: boolean
  /** Share of the 8 GB notification queue that is taken: a listener idle in a transaction fills it, then commits fail. */
  notification_queue_usage: number | null
}

/** Never rejects; gives up after two seconds. */
export async function probeDatabase(pool: pg.Pool): Promise<DatabaseProbe> {
  const away = { ok: false, notification_queue_usage: null }
  const asked = pool
    .query<{ usage: number }>('select pg_notification_queue_usage() as usage')
    .then(({ rows }) => ({ ok: true, notification_queue_usage: rows[0]!.usage }))
    .catch(() => away)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<DatabaseProbe>((resolve) => {
    timer = setTimeout(() => resolve(away), 2_000)
  })
  return Promise.race([asked, late]).finally(() => clearTimeout(timer))
}
