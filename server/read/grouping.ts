// "Why grouped here?": the hashes of an issue, and that of an event, with what was hashed.

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { explained } from '../ingest/grouping/explain.ts'

export interface IssueHash {
  /** 32 lower-case hex. */
  hash: string
  issue_id: string
  /** The rules by which it was made; null when that was not kept. */
  algo: string | null
  /** The JSON whose sha256 the hash begins; null when it was not kept. */
  components: unknown
  /** The same in a sentence. */
  explanation: string
  created_at: string
  /** The issue that it came with when that was merged into this one. */
  merged_from: string | null
}

export interface HashPage {
  data: IssueHash[]
  next_cursor: string | null
}

export interface GroupingOfEvent {
  event_id: string
  /** Where the event is now; after a merge that is another issue than its hash had at first. */
  issue_id: string
  /** Null for an event that was stored by hand, before hashes were kept, or in the overflow issue, which binds no hash. */
  hash: IssueHash | null
}

export interface Groupings {
  /** Oldest first. */
  hashes(projectId: string, issueId: string, page: { limit: number; cursor?: string | undefined }): Promise<HashPage>
  /** Null when the project has no such event. */
  ofEvent(projectId: string, eventId: string): Promise<GroupingOfEvent | null>
}

export function createGroupings(db: Db): Groupings {
  const all = () =>
    db
      .selectFrom('issue_hashes')
      .select(['hash', 'issue_id', 'algo', 'components', 'created_at', 'merged_from'])
      .select(sql<string>`(extract(epoch from created_at) * 1000000)::bigint`.as('position'))

  return {
    async hashes(projectId, issueId, { limit, cursor }) {
      let query = all().where('project_id', '=', projectId).where('issue_id', '=', issueId)
      if (cursor) {
        const [position, hash] = parsePageCursor(cursor)
        query = query.where(
          sql<boolean>`((extract(epoch from created_at) * 1000000)::bigint, hash) > (${position}::bigint, ${hash}::uuid)`,
        )
      }
      const rows = await query
        .orderBy(sql`position`)
        .orderBy('hash')
        .limit(limit + 1)
        .execute()
      const page = rows.slice(0, limit)
      const last = page.at(-1)
      return {
        data: page.map(hashFrom),
        next_cursor: rows.length > limit && last ? `${last.position}_${plain(last.hash)}` : null,
      }
    },
    async ofEvent(projectId, eventId) {
      const event = await db
        .selectFrom('events')
        .select(['id', 'issue_id', 'hash'])
        .where('project_id', '=', projectId)
        .where('id', '=', eventId)
        .executeTakeFirst()
      if (!event) return null
      const row =
        event.hash === null
          ? null
          : await all().where('project_id', '=', projectId).where('hash', '=', event.hash).executeTakeFirst()
      return { event_id: plain(event.id), issue_id: event.issue_id, hash: row ? hashFrom(row) : null }
    },
  }
}

interface Row {
  hash: string
  issue_id: string
  algo: string | null
  components: unknown
  created_at: Date
  merged_from: string | null
}

function hashFrom(row: Row): IssueHash {
  return {
    hash: plain(row.hash),
    issue_id: row.issue_id,
    algo: row.algo,
    components: row.components,
    explanation: explained(row.components),
    created_at: row.created_at.toISOString(),
    merged_from: row.merged_from,
  }
}

function plain(uuid: string): string {
  return uuid.replaceAll('-', '')
}

function parsePageCursor(cursor: string): [position: string, hash: string] {
  const match = /^([0-9]{1,18})_([0-9a-f]{32})$/.exec(cursor)
  if (!match) throw new AppError('bad_request', 'cursor is not of this list: take it from next_cursor')
  return [match[1]!, match[2]!]
}
