// What people wrote about errors, as people read it.

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'

export interface FeedbackSummary {
  id: string
  project_id: string
  /** Null until its event is here, or when it is about none. */
  issue_id: string | null
  event_id: string | null
  name: string | null
  email: string | null
  message: string
  url: string | null
  received_at: string
}

export interface FeedbackPage {
  data: FeedbackSummary[]
  next_cursor: string | null
}

export interface FeedbackReader {
  /** Of a project, or of one issue of it; the latest first. Throws bad_request for a cursor of another list. */
  list(
    of: { project_id: string; issue_id?: string },
    page: { limit: number; cursor?: string | undefined },
  ): Promise<FeedbackPage>
}

export function createFeedback(db: Db): FeedbackReader {
  return {
    async list({ project_id, issue_id }, { limit, cursor }) {
      let query = db
        .selectFrom('user_feedback')
        .select(['id', 'project_id', 'issue_id', 'event_id', 'name', 'email', 'message', 'url', 'received_at'])
        // To the microsecond, which a JavaScript Date would cut: pages must not overlap.
        .select(sql<string>`(extract(epoch from received_at) * 1000000)::bigint`.as('position'))
        .where('project_id', '=', project_id)
      if (issue_id !== undefined) query = query.where('issue_id', '=', issue_id)
      if (cursor) {
        const after = parseCursor(cursor)
        query = query.where(
          sql<boolean>`(received_at, id) < ('epoch'::timestamptz + ${after.position}::bigint * interval '1 microsecond', ${after.id}::uuid)`,
        )
      }
      const rows = await query
        .orderBy('received_at', 'desc')
        .orderBy('id', 'desc')
        .limit(limit + 1)
        .execute()
      const last = rows.length > limit ? rows[limit - 1]! : null
      return {
        data: rows.slice(0, limit).map(({ position: _, received_at, id, event_id, ...row }) => ({
          ...row,
          id: plain(id),
          event_id: event_id === null ? null : plain(event_id),
          received_at: received_at.toISOString(),
        })),
        next_cursor: last && `${last.position}_${plain(last.id)}`,
      }
    },
  }
}

/** Ids of events are 32 hex everywhere. */
const plain = (uuid: string) => uuid.replaceAll('-', '')

function parseCursor(cursor: string): { position: string; id: string } {
  const match = /^([0-9]{1,18})_([0-9a-f]{32})$/.exec(cursor)
  if (!match) throw new AppError('bad_request', 'cursor is not of this list: take it from next_cursor')
  return { position: match[1]!, id: match[2]! }
}
