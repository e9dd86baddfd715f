// What a client has missed, read from the tables: every event and issue change whose transaction is not below its cursor.
//
// It is read in pages, so that a client which was away for long costs the memory of one page, and it is still what one
// snapshot showed: the first statement names its snapshot, and a page is told to see the transactions of that one and no
// others. Rows are only ever added, and one that was deleted since then is told as deleted by another message; so the
// pages together are what one statement would have read. What the snapshot does not show comes to the tap or the topics.

import type pg from 'pg'
import { ChangeEntry, EventEntry } from '../notify/channels.ts'
import { maxReplay } from '../protocol.ts'
import { cursorFrom, type Position } from './cursor.ts'
import { type Change, eventChange, issueChange, resyncChange } from './messages.ts'

export interface Snapshot {
  position: Position
  unresolved: number
  version: number
  /** Why there are no pages: more than maxReplay were missed, or the cursor is not of this epoch. */
  reason: 'cursor_too_old' | 'cursor_foreign' | null
  /** In order of their transactions; null when there are no more. The first is 0, and any may be asked for again. */
  page(number: number): Promise<Change[] | null>
}

export interface Replay {
  /** The present, and with `since` everything from there to the present. */
  read(projectId: string, since: Position | null): Promise<Snapshot>
  /** Names the present life of the data; the first call of a new one records it. */
  epoch(): Promise<string>
}

/** Some 0.3 MB of messages, at most 1.8. */
export const pageSize = 1_000

interface PresentRow {
  snapshot: string
  horizon: string
  next: string
  unresolved: string
  version: string
}

const presentColumns = `
  select pg_current_snapshot()::text as snapshot, pg_snapshot_xmin(pg_current_snapshot())::text as horizon,
         pg_snapshot_xmax(pg_current_snapshot())::text as next,
         coalesce(max(unresolved), 0)::text as unresolved, coalesce(max(version), 0)::text as version`

const present = `${presentColumns} from project_counters where project_id = $1`

// Data that was restored from another cluster carries that one's transaction ids: rows from before this epoch began are
// not of this count. The hour is for clocks that differ.
const bound = `
  bound as (
    select case when count(*) > 1 then max(started_at) filter (where epoch = $3) - interval '1 hour' else '-infinity' end as since
      from stream_epochs
  )`

const presentSince = `
  with ${bound}
  ${presentColumns},
         (select count(*) from (
            (select from events where project_id = $1 and xid >= $2::xid8 and received_at >= (select since from bound) limit $4)
            union all
            (select from issue_activity where project_id = $1 and xid >= $2::xid8 and created_at >= (select since from bound) limit $4)
          ) due)::int as due
    from project_counters where project_id = $1`

/** Where a page ends. Within a transaction issue changes (0) come before events (1), which have no number. */
interface Key {
  xid: string
  kind: number
  number: string
  received_at: string
  id: string
}

/** Before everything of a transaction. */
const start = (xid: bigint): Key => ({
  xid: String(xid),
  kind: -1,
  number: '0',
  received_at: '-infinity',
  id: '00000000-0000-0000-0000-000000000000',
})

// By key, not by offset: pages cost the same wherever they lie. An entry is made for what the page holds alone.
const changesPage = `
  with ${bound},
  changes as (
    (select 1 as kind, e.xid, 0::bigint as number, e.received_at, e.id, e.issue_id, e.level, e.environment, e.release, e.platform,
            e.title, e.culprit, e.message, e.transaction, e.server_name, e.user_key, e.timestamp
       from events e
      where e.project_id = $1 and e.xid >= $2::xid8 and e.received_at >= (select since from bound)
        and pg_visible_in_snapshot(e.xid, $4::pg_snapshot)
        and (e.xid > $2::xid8 or (1, 0, e.received_at, e.id) > ($5::int, $6::bigint, $7::timestamptz, $8::uuid))
      order by e.xid, e.received_at, e.id limit $9)
    union all
    (select 0, a.xid, a.id, '-infinity', '00000000-0000-0000-0000-000000000000', a.issue_id, a.action, a.actor, null, null,
            null, null, null, null, null, null, null
       from issue_activity a
      where a.project_id = $1 and a.xid >= $2::xid8 and a.created_at >= (select since from bound)
        and pg_visible_in_snapshot(a.xid, $4::pg_snapshot)
        and (a.xid > $2::xid8 or (0, a.id) > ($5::int, $6::bigint))
      order by a.xid, a.id limit $9)
  ),
  page as (select * from changes order by xid, kind, number, received_at, id limit $9)
  select p.kind, p.xid::text, p.number::text, p.received_at::text, p.id::text,
         case p.kind
           when 1 then mesher_event_entry(200, p.id, p.issue_id, p.level, p.environment, p.release, p.platform, p.title, p.culprit,
                         p.message, p.transaction, p.server_name, p.user_key, p.received_at, p.timestamp)
           else json_build_object('activity_id', p.number::text, 'action', p.level, 'issue_id', p.issue_id::text,
                  'actor', p.environment, 'issue', mesher_issue_summary($1, p.issue_id))::text
         end as body
    from page p order by p.xid, p.kind, p.number, p.received_at, p.id`

interface ChangeRow extends Key {
  body: string
}

export function createReplay(pool: pg.Pool): Replay {
  let epoch = ''

  async function readPresent(projectId: string, reason: Snapshot['reason']): Promise<Snapshot> {
    const { rows } = await pool.query<PresentRow>({ name: 'present', text: present, values: [projectId] })
    return { ...snapshotFrom(epoch, rows[0]!), reason, page: nothing }
  }

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
      if (!since) return readPresent(projectId, null)
      if (since.epoch !== epoch) return readPresent(projectId, 'cursor_foreign')
      const { rows } = await pool.query<PresentRow & { due: number }>({
        name: 'present_since',
        text: presentSince,
        values: [projectId, String(since.xid), epoch, maxReplay + 1],
      })
      const row = rows[0]!
      const snapshot = snapshotFrom(epoch, row)
      if (since.xid > BigInt(row.next)) return { ...snapshot, reason: 'cursor_foreign', page: nothing }
      if (row.due > maxReplay) return { ...snapshot, reason: 'cursor_too_old', page: nothing }
      if (row.due === 0) return { ...snapshot, reason: null, page: nothing }
      return { ...snapshot, reason: null, page: pagesOf(pool, projectId, since, snapshot.position, row.snapshot) }
    },
  }
}

const nothing = async () => null

function snapshotFrom(epoch: string, row: PresentRow): Omit<Snapshot, 'reason' | 'page'> {
  return {
    position: { epoch, xid: BigInt(row.horizon) },
    unresolved: Number(row.unresolved),
    version: Number(row.version),
  }
}

/** Knows where pages begin; what they hold is read anew each time. */
function pagesOf(pool: pg.Pool, projectId: string, since: Position, horizon: Position, snapshot: string) {
  const begins: (Key | null)[] = [start(since.xid)]
  return async (number: number): Promise<Change[] | null> => {
    const from = begins[number]
    if (!from) return null
    const { rows } = await pool.query<ChangeRow>({
      name: 'changes_page',
      text: changesPage,
      values: [
        projectId,
        from.xid,
        horizon.epoch,
        snapshot,
        from.kind,
        from.number,
        from.received_at,
        from.id,
        pageSize,
      ],
    })
    const last = rows.at(-1)
    // Once known it stays: a page that is read again after a deletion reaches further, and others go on from here.
    if (begins.length === number + 1) begins.push(last && rows.length === pageSize ? keyOf(last) : null)
    return last ? rows.map((row) => changeFrom(projectId, horizon, row)) : null
  }
}

const keyOf = ({ xid, kind, number, received_at, id }: ChangeRow): Key => ({ xid, kind, number, received_at, id })

/** A replayed change moves the cursor on to its own transaction: all before it are settled and were sent. */
function changeFrom(projectId: string, horizon: Position, row: ChangeRow): Change {
  const xid = BigInt(row.xid) < horizon.xid ? BigInt(row.xid) : horizon.xid
  const cursor = cursorFrom({ epoch: horizon.epoch, xid })
  const body: unknown = JSON.parse(row.body)
  if (row.kind === 1) {
    const event = EventEntry.safeParse(body)
    return event.success ? eventChange(projectId, cursor, event.data) : resyncChange(projectId, cursor, row.xid)
  }
  const issue = ChangeEntry.safeParse(body)
  // TRUNCATE has no rows to tell (tg_issues__truncated), and what was made by hand may say what no message can.
  return issue.success ? issueChange(projectId, cursor, issue.data) : resyncChange(projectId, cursor, row.xid)
}
