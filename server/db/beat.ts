// The listener's heartbeat: a notification to ourselves through the whole database, with the transaction horizon that
// subscribers are then given as their cursor.
//
// A transaction that only notifies is committed without waiting for the disk, and a crash forgets its number: the next
// transactions get it again, below a cursor that was told, and a subscriber who comes back would not be sent them. The
// message in the log, which nobody reads, makes the commit wait.

import type pg from 'pg'

export async function sendBeat(pool: pg.Pool, { from, beat }: { from: string; beat: number }): Promise<void> {
  try {
    await pool.query(
      `select pg_notify('mesher', json_build_object('action', 'heartbeat', 'from', $1::text, 'beat', $2::int,
         'cursor', pg_snapshot_xmin(pg_current_snapshot())::text)::text), pg_logical_emit_message(true, 'mesher', '')`,
      [from, beat],
    )
  } catch (error) {
    // PostgreSQL (13 to 18) frees what was read of its notification queue only when a commit adds to it, and nothing can be
    // added to a full one: without this question, which frees it, it would stay full when who held it is long gone.
    if ((error as { code?: unknown }).code === '54000') await pool.query('select pg_notification_queue_usage()')
    throw error
  }
}
