// Issues as people see them. Every query names its projects, which come from the authorised access, never from the request.

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import type { IssueStatus, IssueSummary, Level } from '../protocol.ts'

export interface IssuePage {
  data: IssueSummary[]
  next_cursor: string | null
}

export interface IssueQuery {
  status?: IssueStatus | undefined
  level?: Level | undefined
  limit: number
  cursor?: string | undefined
}

export interface Issues {
  /** Most recently seen first. Throws bad_request for a cursor of another list. */
  list(projectId: string, query: IssueQuery): Promise<IssuePage>
  /** Null when there is none in these projects. */
  find(projectIds: string[], id: string): Promise<IssueSummary | null>
}

export function createIssues(db: Db): Issues {
  const summaries = () =>
    db
      .selectFrom('issues_overview')
      .select(['id', 'project_id', 'short_id', 'title', 'culprit', 'level', 'platform', 'status', 'assigned_to'])
      .select(['first_seen', 'event_count', 'user_count', 'dropped_count', 'status_changed_at'])
      .select(['archived_until', 'archived_until_event_count', 'archived_until_escalating'])
      .select(sql<Date>`coalesce(last_seen, first_seen)`.as('last_seen'))
      // To the microsecond, which a JavaScript Date would cut: pages must not overlap.
      .select(sql<string>`(extract(epoch from coalesce(last_seen, first_seen)) * 1000000)::bigint`.as('position'))

  return {
    async list(projectId, { status, level, limit, cursor }) {
      let query = summaries().where('project_id', '=', projectId)
      if (status) query = query.where('status', '=', status)
      if (level) query = query.where('level', '=', level)
      if (cursor) {
        const after = parsePageCursor(cursor)
        query = query.where(
          sql<boolean>`((extract(epoch from coalesce(last_seen, first_seen)) * 1000000)::bigint, id) < (${after.position}::bigint, ${after.id}::bigint)`,
        )
      }
      const rows = await query
        .orderBy(sql`position`, 'desc')
        .orderBy('id', 'desc')
        .limit(limit + 1)
        .execute()
      const page = rows.slice(0, limit)
      const last = page.at(-1)
      return {
        data: page.map(summaryFrom),
        next_cursor: rows.length > limit && last ? `${last.position}_${last.id}` : null,
      }
    },
    async find(projectIds, id) {
      if (projectIds.length === 0) return null
      const row = await summaries().where('project_id', 'in', projectIds).where('id', '=', id).executeTakeFirst()
      return row ? summaryFrom(row) : null
    },
  }
}

interface Row {
  id: string | null
  project_id: string | null
  short_id: string | null
  title: string | null
  culprit: string | null
  level: string | null
  platform: string | null
  status: string | null
  assigned_to: string | null
  first_seen: Date | null
  last_seen: Date
  event_count: string | null
  user_count: string | null
  dropped_count: string | null
  status_changed_at: Date | null
  archived_until: Date | null
  archived_until_event_count: string | null
  archived_until_escalating: boolean | null
  position: string
}

/** A view's columns are nullable to the type generator; these come from columns that are not. */
function summaryFrom(row: Row): IssueSummary {
  return {
    id: row.id!,
    project_id: row.project_id!,
    short_id: row.short_id!,
    title: row.title!,
    culprit: row.culprit,
    level: row.level as Level,
    platform: row.platform!,
    status: row.status as IssueStatus,
    assigned_to: row.assigned_to,
    first_seen: row.first_seen!.toISOString(),
    last_seen: row.last_seen.toISOString(),
    event_count: Number(row.event_count),
    user_count: Number(row.user_count),
    dropped_count: Number(row.dropped_count),
    status_changed_at: row.status_changed_at!.toISOString(),
    archived_until: row.archived_until?.toISOString() ?? null,
    archived_until_event_count: row.archived_until_event_count === null ? null : Number(row.archived_until_event_count),
    archived_until_escalating: row.archived_until_escalating!,
  }
}

function parsePageCursor(cursor: string): { position: string; id: string } {
  const match = /^([0-9]{1,18})_([0-9]{1,18})$/.exec(cursor)
  if (!match) throw new AppError('bad_request', 'cursor is not of this list: take it from next_cursor')
  return { position: match[1]!, id: match[2]! }
}
