// Brings archived issues back when their time has come, about once a second. Each process does it: the function skips what
// another one has in hand (db/triage.sql).

import type pg from 'pg'
import type { Log } from '../log.ts'
import type { Service } from '../service.ts'

const interval = 1_000
/** Issues in one statement: more than 500 would be told as one bulk change. */
const most = 500

export interface ArchiveTimer extends Service {
  /** All that are due, now. */
  run(): Promise<void>
}

export function createArchiveTimer(pool: pg.Pool, log: Log): ArchiveTimer {
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> | undefined

  async function once(): Promise<void> {
    const { rows } = await pool.query<{ project_id: string }>(
      'select distinct project_id from issues where archived_until <= now()',
    )
    for (const { project_id } of rows) {
      const { rows: done } = await pool.query<{ issues: number }>('select mesher_unarchive_due($1, $2) as issues', [
        project_id,
        most,
      ])
      if (done[0]!.issues > 0) log.info('archive.due', { project_id, issues: done[0]!.issues })
    }
  }

  function run(): Promise<void> {
    running ??= once().finally(() => {
      running = undefined
    })
    return running
  }

  const attempt = () => run().catch((error) => log.warn('archive.failed', { error }))

  return {
    name: 'archive timer',
    async start() {
      timer = setInterval(attempt, interval)
    },
    async stop() {
      clearInterval(timer)
      await running?.catch(() => {})
    },
    run,
  }
}
