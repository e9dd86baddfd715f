// The payloads of channel `mesher`: the TypeScript mirror of db/triggers.sql. Anybody who may connect can NOTIFY, so a
// payload that does not fit is refused here, and nothing of it goes further.

import { z } from 'zod'
import { actions, levels, statuses } from '../protocol.ts'

export const channel = 'mesher'

const Id = z.string().regex(/^[1-9][0-9]{0,18}$/)
/** At most what PostgreSQL takes as xid8: clients are handed it as their cursor, and come back with it. */
const Xid = z.string().refine((text) => /^[0-9]{1,20}$/.test(text) && BigInt(text) < 2n ** 64n)
const Time = z.iso.datetime({ offset: true })
const Text = z.string().nullish()

const Counted = {
  project_id: Id,
  unresolved: z.int().min(0),
  version: z.int().min(0),
  cursor: Xid,
  /** Entries that were committed and cannot be read; set by parseNotification. */
  unreadable: z.int().default(0),
}

/** An event as mesher_event_entry writes it; absent means null. */
export const EventEntry = z.object({
  id: z.string().regex(/^[0-9a-f]{32}$/),
  issue_id: Id,
  level: z.enum(levels),
  environment: Text,
  release: Text,
  platform: z.string(),
  title: z.string(),
  culprit: Text,
  message: Text,
  transaction: Text,
  server_name: Text,
  user: Text,
  received_at: Time,
  timestamp: Time,
})
export type EventEntry = z.output<typeof EventEntry>

/** What mesher_issue_summary writes. */
export const IssueEntry = z.object({
  short_id: z.string(),
  title: z.string(),
  culprit: z.string().nullable(),
  level: z.enum(levels),
  platform: z.string(),
  status: z.enum(statuses),
  assigned_to: z.string().nullable(),
  first_seen: Time,
  last_seen: Time,
  event_count: z.int(),
  user_count: z.int(),
  dropped_count: z.int(),
  status_changed_at: Time,
  archived_until: Time.nullable(),
  archived_until_event_count: z.int().nullable(),
  archived_until_escalating: z.boolean(),
})

export const ChangeEntry = z.object({
  activity_id: Id,
  action: z.enum(actions),
  issue_id: Id,
  actor: z.string(),
  issue: IssueEntry.nullable(),
})
export type ChangeEntry = z.output<typeof ChangeEntry>

/** Those entries that can be read: rows that somebody made by hand may hold what no message can say. */
const entriesOf = <T extends z.ZodType>(entry: T) =>
  z.array(z.unknown()).transform((rows) =>
    rows.flatMap((row) => {
      const read = entry.safeParse(row)
      return read.success ? [read.data] : []
    }),
  )

export const Notification = z.discriminatedUnion('action', [
  z.object({ action: z.literal('events'), ...Counted, events: entriesOf(EventEntry) }),
  z.object({ action: z.literal('issues'), ...Counted, issues: entriesOf(ChangeEntry) }),
  z.object({ action: z.literal('bulk'), ...Counted, changes: z.int() }),
  z.object({ action: z.literal('keys'), project_id: Id, public_key: z.string(), revoked: z.boolean() }),
  z.object({ action: z.literal('access') }),
  z.object({ action: z.literal('heartbeat'), from: z.string(), beat: z.int(), cursor: Xid }),
])
export type Notification = z.output<typeof Notification>

/** Null when the payload is nobody's of ours. */
export function parseNotification(payload: string): Notification | null {
  try {
    const raw = JSON.parse(payload)
    const parsed = Notification.safeParse(raw)
    if (!parsed.success) return null
    const { data } = parsed
    if (data.action === 'events') data.unreadable = raw.events.length - data.events.length
    if (data.action === 'issues') data.unreadable = raw.issues.length - data.issues.length
    return data
  } catch {
    return null
  }
}
