// Entries of notifications and of the replay -> messages of protocol.ts, encoded once whoever gets them.

import type { ChangeEntry, EventEntry } from '../notify/channels.ts'
import type { EventSummary, IssueSummary, Level, ServerMessage } from '../protocol.ts'

/** One message about one committed change, with what decides who gets it. */
export interface Change {
  /** The same for the same change, live or replayed. */
  key: string
  /** Null for changes that every subscriber of the project sees. */
  event: { level: Level; environment: string | null } | null
  text: string
}

export const encode = (message: ServerMessage): string => JSON.stringify(message)

export function eventChange(projectId: string, cursor: string, entry: EventEntry): Change {
  const environment = entry.environment ?? null
  const text = encode({
    type: 'event',
    project_id: projectId,
    issue_id: entry.issue_id,
    data: eventSummary(entry, environment),
    cursor,
  })
  return { key: `e${entry.id}`, event: { level: entry.level, environment }, text }
}

function eventSummary(entry: EventEntry, environment: string | null): EventSummary {
  return {
    id: entry.id,
    level: entry.level,
    environment,
    release: entry.release ?? null,
    platform: entry.platform,
    title: entry.title,
    culprit: entry.culprit ?? null,
    message: entry.message ?? null,
    transaction: entry.transaction ?? null,
    server_name: entry.server_name ?? null,
    user: entry.user ?? null,
    received_at: isoTime(entry.received_at),
    timestamp: isoTime(entry.timestamp),
  }
}

export function issueChange(projectId: string, cursor: string, entry: ChangeEntry): Change {
  const issue: IssueSummary | null = entry.issue && {
    id: entry.issue_id,
    project_id: projectId,
    ...entry.issue,
    first_seen: isoTime(entry.issue.first_seen),
    last_seen: isoTime(entry.issue.last_seen),
    status_changed_at: isoTime(entry.issue.status_changed_at),
    archived_until: entry.issue.archived_until && isoTime(entry.issue.archived_until),
  }
  const { action, issue_id, actor } = entry
  const text = encode({ type: 'issue', project_id: projectId, action, issue_id, actor, issue, cursor })
  return { key: `a${entry.activity_id}`, event: null, text }
}

/** More changed at once than is told one by one: read state anew. */
export function resyncChange(project_id: string, cursor: string, xid: string): Change {
  const text = encode({ type: 'resync', project_id, reason: 'bulk_change', cursor })
  return { key: `x${xid}`, event: null, text }
}

const isoTime = (text: string) => new Date(text).toISOString()
