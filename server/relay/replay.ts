// What a client has missed, read from the tables: every event and issue change whose transaction is not below its cursor.
// One statement, so one snapshot: changes, unresolved count and the new horizon belong together.

import type pg from 'pg'
import { z } from 'zod'
import { ChangeEntry, EventEntry } from '../notify/channels.ts'
import { maxReplay } from '../protocol.ts'
import { cursorFrom, type Position } from './cursor.ts'
import { type Change, eventChange, issueChange, resyncChange } from './messages.ts'

export interface Snapshot {
  position: Position
  unresolved: number
  version: number
  /** In order of their transactions. Null when there are more than maxReplay, or the cursor is not of this epoch. */
  changes: Change[] | null
  reason: 'cursor_too_old' | 'cursor_foreign' | null
}

export interface Replay {
  /** The present, and with `since` everything from there to the present. */
  read(projectId: string, since: Position | null): Promise<Snapshot>
  /** Names the present life of the data; the first call of a new one records it. */
  epoch(): Promise<string>
}

interface Row {
  horizon: string
  next: string
  unresolved: string
  version: string
}

const present = `
  select pg_snapshot_xmin(pg_current_snapshot())::text as horizon, pg_snapshot_xmax(pg_current_snapshot())::text as next,
         coalesce(max(unresolved), 0)::text as unresolved, coalesce(max(version), 0)::text as version
    from project_counters where project_id = $1`

// Data that was restored from another cluster carries that one's transaction ids: rows from before this epoch began are
// not of this count. The hour is for clocks that differ.
const changesSince = `
  with present as (${present}),
  bound as (
    select case when count(*) > 1 then max(started_at) filter (where epoch = $3) - interval '1 hour' else '-infinity' end as since
      from stream_epochs
  ),
  changes as (
    (select 'event' as kind, e.xid, 0::bigint as number, e.received_at, mesher_event_entry(200, e.id, e.issue_id, e.level,
              e.environment, e.release, e.platform, e.title, e.culprit, e.message, e.transaction, e.server_name, e.user_key,
              e.received_at, e.timestamp)::json as body
       from events e, bound where e.project_id = $1 and e.xid >= $2::xid8 and e.received_at >= bound.since
      order by e.xid limit $4)
    union all
    (select 'issue', a.xid, a.id, a.created_at, json_build_object('activity_id', a.id::text, 'action', a.action,
              'issue_id', a.issue_id::text, 'actor', a.actor, 'issue', mesher_issue_summary(a.project_id, a.issue_id))
       from issue_activity a, bound where a.project_id = $1 and a.xid >= $2::xid8 and a.created_at >= bound.since
      order by a.xid limit $4)
  ),
  limited as (select * from changes order by xid, kind desc, number limit $4)
  select p.*, (select json_agg(json_build_object('kind', l.kind, 'xid', l.xid::text, 'body', l.body)
                        order by l.xid, l.kind desc, l.number, l.received_at) from limited l)::text as changes
    from present p`

const ChangeRows = z.array(z.object({ kind: z.enum(['event', 'issue']), xid: z.string(), body: z.unknown() }))

export function createReplay(pool: pg.Pool): Replay {
  let epoch = ''
  return {
    async epoch() {
      const { rows } = await pool.query<{ epoch: string }>(
        `with present as (
           select system_identifier || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8) as epoch from pg_control_system()
         ), noted as (
           insert into stream_epochs (epoch) select epoch from present on conflict do nothing
         )
         select epoch from present`,
      )
      epoch = rows[0]!.epoch
      return epoch
    },
    async read(projectId, since) {
      if (!since || since.epoch !== epoch) {
        const { rows } = await pool.query<Row>({ name: 'present', text: present, values: [projectId] })
        return { ...snapshotFrom(epoch, rows[0]!), changes: since ? null : [], reason: since ? 'cursor_foreign' : null }
      }
      const { rows } = await pool.query<Row & { changes: string | null }>({
        name: 'changes_since',
        text: changesSince,
        values: [projectId, String(since.xid), epoch, maxReplay + 1],
      })
      const row = rows[0]!
      const snapshot = snapshotFrom(epoch, row)
      if (since.xid > BigInt(row.next)) return { ...snapshot, changes: null, reason: 'cursor_foreign' }
      const changes = ChangeRows.parse(JSON.parse(row.changes ?? '[]'))
      if (changes.length > maxReplay) return { ...snapshot, changes: null, reason: 'cursor_too_old' }
      return {
        ...snapshot,
        changes: changes.map((change) => changeFrom(projectId, snapshot.position, change)),
        reason: null,
      }
    },
  }
}

function snapshotFrom(epoch: string, row: Row): Omit<Snapshot, 'changes' | 'reason'> {
  return {
    position: { epoch, xid: BigInt(row.horizon) },
    unresolved: Number(row.unresolved),
    version: Number(row.version),
  }
}

/** A replayed change moves the cursor on to its own transaction: all before it are settled and were sent. */
function changeFrom(projectId: string, horizon: Position, change: z.output<typeof ChangeRows>[number]): Change {
  const xid = BigInt(change.xid) < horizon.xid ? BigInt(change.xid) : horizon.xid
  const cursor = cursorFrom({ epoch: horizon.epoch, xid })
  if (change.kind === 'event') {
    const event = EventEntry.safeParse(change.body)
    return event.success ? eventChange(projectId, cursor, event.data) : resyncChange(projectId, cursor, change.xid)
  }
  const issue = ChangeEntry.safeParse(change.body)
  // TRUNCATE has no rows to tell (tg_issues__truncated), and what was made by hand may say what no message can.
  return issue.success ? issueChange(projectId, cursor, issue.data) : resyncChange(projectId, cursor, change.xid)
}
