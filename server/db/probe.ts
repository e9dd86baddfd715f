// What /readyz asks the database: whether it answers, who holds up a writer, how full the notification queue is.

import type pg from 'pg'
import type { BlockingSession } from '../write/blocked.ts'

/** Who holds the lock that the backend `pid` waits for, the one at the end of the line. Null when it does not wait. */
export async function findBlocker(pool: pg.Pool, pid: number): Promise<BlockingSession | null> {
  const { rows } = await pool.query(
    // Other writers may stand in the line: whom nobody holds up is the one to know about.
    `with recursive line as (
       select unnest(pg_blocking_pids($1)) as pid union select unnest(pg_blocking_pids(line.pid)) from line
     )
     select a.pid, a.usename as role, a.application_name as application, a.state, left(a.query, 200) as query
       from line join pg_stat_activity a using (pid) order by cardinality(pg_blocking_pids(a.pid)) > 0, a.xact_start limit 1`,
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
