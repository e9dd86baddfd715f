// The answers of protocol.md as strict schemas: a field too many or too few is a broken promise. Each function takes what
// came over the wire, and gives back what it says or throws.

import assert from 'node:assert/strict'
import { z } from 'zod'
import { type ErrorCode, statusOf } from '../../server/errors.ts'
import { actions, levels, statuses } from '../../server/protocol.ts'
import type { RawAnswer } from '../support/raw.ts'

const Hex = z.string().regex(/^[0-9a-f]{32}$/)
const Id = z.string().regex(/^[1-9]\d*$/)
const Cursor = z.string().regex(/^\d{1,20}\.[0-9A-F]{8}-\d{1,20}$/)
const Time = z.iso.datetime()
const Text = z.string().nullable()
const Code = z.enum(Object.keys(statusOf) as [ErrorCode, ...ErrorCode[]])
const Ref = z.union([z.string(), z.number(), z.null()]).optional()

const Stored = z.strictObject({ status: z.literal('accepted'), id: Hex, issue_id: Id })
const Rejected = z.strictObject({
  status: z.literal('rejected'),
  error: z.string().min(10),
  code: Code,
  id: Text,
  retry_after: z.number().optional(),
})
const Ignored = z.strictObject({ status: z.literal('ignored'), id: Text, items: z.array(z.string()) })
const Result = z.discriminatedUnion('status', [Stored, Rejected])
const SentryStored = z.strictObject({ id: Hex.optional() })
const SentryError = z.strictObject({ detail: z.string().min(10), causes: z.array(z.string()) })
const ApiError = z.strictObject({
  error: z.strictObject({
    code: Code,
    message: z.string().min(5),
    details: z.array(z.strictObject({ path: z.string(), message: z.string() })).optional(),
  }),
})

const IssueSummary = z.strictObject({
  id: Id,
  project_id: Id,
  short_id: z.string(),
  title: z.string(),
  culprit: Text,
  level: z.enum(levels),
  platform: z.string(),
  status: z.enum(statuses),
  assigned_to: Text,
  first_seen: Time,
  last_seen: Time,
  event_count: z.number(),
  user_count: z.number(),
  dropped_count: z.number(),
  status_changed_at: Time,
  archived_until: Time.nullable(),
  archived_until_event_count: z.number().nullable(),
  archived_until_escalating: z.boolean(),
})
const EventSummary = z.strictObject({
  id: Hex,
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
const Filters = z.strictObject({ level: z.array(z.enum(levels)), environment: z.array(z.string()) })
const data = { project_id: Id, cursor: Cursor }
const ServerMessage = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('subscribed'),
    filters: Filters,
    unresolved: z.number(),
    server_time: Time,
    ...data,
  }),
  z.strictObject({ type: z.literal('filters_updated'), filters: Filters, unresolved: z.number(), ref: Ref, ...data }),
  z.strictObject({ type: z.literal('event'), issue_id: Id, data: EventSummary, ...data }),
  z.strictObject({
    type: z.literal('issue'),
    action: z.enum(actions),
    issue_id: Id,
    actor: z.string(),
    issue: IssueSummary.nullable(),
    ...data,
  }),
  z.strictObject({ type: z.literal('issue_count'), count: z.number(), ...data }),
  z.strictObject({ type: z.literal('rate'), events: z.number(), shown: z.number(), seconds: z.number(), ...data }),
  z.strictObject({ type: z.literal('mark'), server_time: Time, ...data }),
  z.strictObject({
    type: z.literal('gap'),
    reason: z.enum(['slow_consumer', 'listener_lost']),
    dropped: z.number().nullable(),
    ...data,
  }),
  z.strictObject({
    type: z.literal('resync'),
    reason: z.enum(['cursor_too_old', 'cursor_foreign', 'bulk_change']),
    ...data,
  }),
  z.strictObject({ type: z.literal('error'), code: Code, error: z.string().min(5), ref: Ref }),
  z.strictObject({ type: z.literal('pong'), ref: Ref }),
])
export type ServerFrame = z.output<typeof ServerMessage>
export type IngestReply = z.output<typeof IngestReply>

const IngestReply = z.discriminatedUnion('status', [Stored, Rejected, Ignored])
const page = <T extends z.ZodType>(item: T) =>
  z.strictObject({ data: z.array(item), next_cursor: z.string().nullable() })

function read<T extends z.ZodType>(schema: T, text: string): z.output<T> {
  const result = schema.safeParse(JSON.parse(text))
  assert.ok(result.success, `${text.slice(0, 500)} is not as protocol.md has it: ${result.error?.message}`)
  return result.data
}

export const serverMessage = (text: string): ServerFrame => read(ServerMessage, text)
export const ingestReply = (text: string): IngestReply => read(IngestReply, text)

export type Door = 'envelope' | 'store' | 'events' | 'bulk' | 'security' | 'tunnel'

/** The ids that were answered as accepted. */
export function acceptedBy(door: Door, { status, body }: RawAnswer): string[] {
  assert.ok(status < 500, `${status} ${body}`)
  if (door === 'security') {
    if (status !== 200) return refused(status, read(SentryError, body).detail)
    assert.equal(body, '')
    return []
  }
  if (door === 'envelope' || door === 'store' || door === 'tunnel') {
    if (status !== 200) return refused(status, read(SentryError, body).detail)
    const { id } = read(SentryStored, body)
    return id === undefined ? [] : [id]
  }
  if (status !== 202) return apiRefusal({ status, body })
  if (door === 'events') return [read(Stored, body).id]
  const { results } = read(z.strictObject({ results: z.array(Result) }), body)
  return results.flatMap((result) => (result.status === 'accepted' ? [result.id] : []))
}

function refused(status: number, text: string): [] {
  assert.ok(status >= 400 && status < 500, `${status} ${text}`)
  return []
}

export function apiRefusal({ status, body }: Pick<RawAnswer, 'status' | 'body'>): [] {
  const { error } = read(ApiError, body)
  assert.equal(status, statusOf[error.code])
  return refused(status, body)
}

/** An answer of the HTTP API. */
export function apiAnswer({ status, body }: RawAnswer): void {
  if (status !== 200) return void apiRefusal({ status, body })
  read(
    z.union([page(IssueSummary), IssueSummary, z.strictObject({ status: z.literal('ok'), affected: z.number() })]),
    body,
  )
}
