// The public contract of the live stream (`/stream/projects/:project`): message shapes, close codes, limits.
// Server messages are facts or answers, client messages are imperatives. Ids are strings, times ISO 8601 UTC.

import { z } from 'zod'

export const levels = ['fatal', 'error', 'warning', 'info', 'debug'] as const
export type Level = (typeof levels)[number]

export const statuses = ['unresolved', 'resolved', 'archived', 'discarded'] as const
export type IssueStatus = (typeof statuses)[number]

export const actions = [
  'created',
  'resolved',
  'unresolved',
  'regressed',
  'archived',
  'escalated',
  'discarded',
  'assigned',
  'unassigned',
  'merged',
  'deleted',
  'updated',
] as const
export type IssueAction = (typeof actions)[number]

export const closeCodes = {
  /** The server is going away: come back with the last cursor. */
  shutting_down: 1001,
  /** The key or token was revoked. */
  unauthenticated: 4401,
  /** This client read too slowly for too long. A socket whose buffer is full sees 1006 instead. */
  slow_consumer: 4408,
  /** Too many sockets for one token or project. */
  rate_limited: 4429,
  /** The database could not be asked for what was missed: come back with the last cursor. */
  unavailable: 4503,
} as const

/** At most this much waits in the server for one stream socket that does not read. */
export const maxBufferedBytes = 1024 * 1024
/** A stream socket hears something at least this often, in milliseconds. */
export const markInterval = 15_000
/** Above this many events a second the stream of a project shows samples, unless a subscriber says `"sample":false`. */
export const sampledAbove = 200
/** More missed changes than this, counted over events and issues, are answered with `resync`. */
export const maxReplay = 10_000

/** Empty texts stand for nothing, as an empty list does: forms send them. */
const withoutEmpty = (value: unknown) =>
  value === '' ? [] : Array.isArray(value) ? value.filter((one) => one !== '') : value

const oneOrMany = <T extends z.ZodType>(item: T, most: number) =>
  z.preprocess(
    withoutEmpty,
    z
      .union([item, z.array(item).max(most)])
      .transform((value) => (Array.isArray(value) ? value : [value]) as z.output<T>[]),
  )

/** Empty lists mean all. `environment` matches by its exact text. */
export const Filters = z.strictObject({
  level: oneOrMany(z.enum(levels), levels.length).optional(),
  environment: oneOrMany(z.string().min(1).max(64), 50).optional(),
})
export interface Filters {
  level: Level[]
  environment: string[]
}

const Ref = z.union([z.string().max(200), z.number()])
export const ClientMessage = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('subscribe'),
    filters: Filters.default({}),
    /** False: every event, also in a storm. */
    sample: z.boolean().default(true),
    since: z.string().max(200).optional(),
    ref: Ref.optional(),
  }),
  z.strictObject({ type: z.literal('ping'), ref: Ref.optional() }),
])
export type ClientMessage = z.output<typeof ClientMessage>
export type Ref = z.output<typeof Ref>

export interface EventSummary {
  id: string
  level: Level
  environment: string | null
  release: string | null
  platform: string
  title: string
  culprit: string | null
  message: string | null
  transaction: string | null
  server_name: string | null
  user: string | null
  received_at: string
  timestamp: string
}

export interface IssueSummary {
  id: string
  project_id: string
  short_id: string
  title: string
  culprit: string | null
  level: Level
  platform: string
  status: IssueStatus
  assigned_to: string | null
  first_seen: string
  last_seen: string
  event_count: number
  user_count: number
  /** Events that came while it was discarded. */
  dropped_count: number
  status_changed_at: string
  /** An archived issue comes back at this time, … */
  archived_until: string | null
  /** … when event_count reaches this, … */
  archived_until_event_count: number | null
  /** … or when it has more events in an hour than it used to. */
  archived_until_escalating: boolean
}

interface Data {
  project_id: string
  cursor: string
}
export type ServerMessage =
  | ({ type: 'subscribed'; filters: Filters; unresolved: number; server_time: string } & Data)
  | ({ type: 'filters_updated'; filters: Filters; unresolved: number; ref?: Ref | undefined } & Data)
  | ({ type: 'event'; issue_id: string; data: EventSummary } & Data)
  | ({ type: 'issue'; action: IssueAction; issue_id: string; actor: string; issue: IssueSummary | null } & Data)
  | ({ type: 'issue_count'; count: number } & Data)
  | ({ type: 'rate'; events: number; shown: number; seconds: number } & Data)
  | ({ type: 'mark'; server_time: string } & Data)
  | ({ type: 'gap'; reason: 'slow_consumer' | 'listener_lost'; dropped: number | null } & Data)
  | ({ type: 'resync'; reason: 'cursor_too_old' | 'cursor_foreign' | 'bulk_change' } & Data)
  | { type: 'error'; code: string; error: string; ref?: Ref | undefined }
  | { type: 'pong'; ref?: Ref | undefined }
