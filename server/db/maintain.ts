// Housekeeping by the hour: partitions made ahead, and dropped when no project keeps events that long; event ids purged.
// Several processes may do it at once: each step is a no-op when it was done. Nothing here holds a lock that ingest waits
// for longer than lock_timeout: a partition is detached concurrently before it is dropped.

import pg from 'pg'
import type { Log } from '../log.ts'
import type { Service } from '../service.ts'
import { connectionConfig } from './pool.ts'
import type { ConnectionWatch } from './watch.ts'

const hour = 3_600_000
/** How long a client may send an event again and have it counted once. */
const eventIdsKept = '72 hours'

export function createMaintenance(
  databaseUrl: string,
  log: Log,
  watch?: ConnectionWatch,
): Service & { run(): Promise<void> } {
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> | undefined

  async function once(): Promise<void> {
    const client = new pg.Client({ ...connectionConfig(databaseUrl, 'mesher maintenance'), lock_timeout: 1_000 })
    client.on('error', () => {})
    await client.connect()
    try {
      await watch?.introduce(client)
      watch?.busy(client)
      await client.query(
        "select ensure_event_partitions((now() at time zone 'UTC')::date - 1, (now() at time zone 'UTC')::date + 7)",
      )
      await dropOldPartitions(client, log)
      await deleteShortLived(client)
      await refreshCeilings(client)
      await client.query(`delete from event_ids where received_at < now() - interval '${eventIdsKept}'`)
      await deleteOldReports(client)
    } finally {
      watch?.idle(client)
      await client.end()
    }
  }

  function run(): Promise<void> {
    running ??= once().finally(() => {
      running = undefined
    })
    return running
  }

  const attempt = () => run().catch((error) => log.warn('maintenance.failed', { error }))

  return {
    name: 'maintenance',
    async start() {
      timer = setInterval(attempt, hour)
      void attempt()
    },
    async stop() {
      clearInterval(timer)
      // A long removal is not waited for: PostgreSQL undoes what was not committed when the connection goes.
      await Promise.race([running?.catch(() => {}), new Promise((resolve) => setTimeout(resolve, 500).unref())])
    },
    run,
  }
}

/** Whole days that are past the longest retention of any project. */
async function dropOldPartitions(client: pg.Client, log: Log): Promise<void> {
  const { rows } = await client.query<{ name: string; pending: boolean }>(`
    select c.relname as name, i.inhdetachpending as pending
      from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'events'::regclass and c.relname ~ '^events_[0-9]{8}$'
       and to_date(right(c.relname, 8), 'YYYYMMDD')
           < (now() at time zone 'UTC')::date - (select coalesce(max(retention_days), 3650) from projects)
     order by 1`)
  for (const { name, pending } of rows) {
    // A detach that was interrupted is finished, not begun again.
    const how = pending ? 'finalize' : 'concurrently'
    await client.query(`alter table events detach partition ${pg.escapeIdentifier(name)} ${how}`)
    await client.query(`drop table ${pg.escapeIdentifier(name)}`)
    log.info('maintenance.partition_dropped', { partition: name })
  }
}

/** Of issues that were archived until they escalate: by the day, see db/triage.sql. */
async function refreshCeilings(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ project_id: string }>(
    "select distinct project_id from issues where archived_until_escalating and escalation_ceiling_at < now() - interval '1 day'",
  )
  for (const { project_id } of rows) await client.query('select mesher_refresh_ceilings($1)', [project_id])
}

/** Events of projects that keep less than the partitions stand for. */
async function deleteShortLived(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ id: string; retention_days: number }>(
    'select id, retention_days from projects where retention_days < (select max(retention_days) from projects)',
  )
  for (const project of rows) {
    await client.query('delete from events where project_id = $1 and received_at < now() - make_interval(days => $2)', [
      project.id,
      project.retention_days,
    ])
  }
}

/** Feedback of an issue stays as long as the issue does. */
async function deleteOldReports(client: pg.Client): Promise<void> {
  await client.query(`
    delete from client_reports r using projects p
     where p.id = r.project_id and r.hour < now() - make_interval(days => p.retention_days)`)
  await client.query(`
    delete from user_feedback f using projects p
     where p.id = f.project_id and f.issue_id is null and f.received_at < now() - make_interval(days => p.retention_days)`)
}
