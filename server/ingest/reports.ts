// Envelope items that are no events and are kept: what an SDK threw away (client_report), and what a person wrote about an
// error (user_report, and its successor feedback). https://develop.sentry.dev/sdk/telemetry/client-reports/,
// https://develop.sentry.dev/sdk/data-model/envelope-items/#user-feedback

import { createHash } from 'node:crypto'
import { parseJson, storable } from './json.ts'
import { cut, eventIdFrom, type JsonObject, objectFrom, textFrom } from './values.ts'

export interface Discarded {
  reason: string
  category: string
  quantity: number
}

export interface Feedback {
  /** 32 lower-case hex; the same feedback sent again has the same. */
  id: string
  /** Of the event that it is about. */
  event_id: string | null
  name: string | null
  email: string | null
  message: string
  url: string | null
  /** Milliseconds. */
  received_at: number
}

// Both are keys of counters: a client must not be able to make up as many as it likes. Others are counted as `other`.
const reasons = new Set([
  'backpressure',
  'before_send',
  'buffer_overflow',
  'cache_overflow',
  'callback_error',
  'event_processor',
  'ignored',
  'insufficient_data',
  'internal_sdk_error',
  'invalid',
  'network_error',
  'no_parent_span',
  'queue_overflow',
  'ratelimit_backoff',
  'sample_rate',
  'send_error',
  'too_big',
])
const categories = new Set([
  'attachment',
  'default',
  'error',
  'feedback',
  'internal',
  'log_byte',
  'log_item',
  'metric_bucket',
  'monitor',
  'profile',
  'profile_chunk',
  'profile_chunk_ui',
  'replay',
  'security',
  'session',
  'span',
  'trace_metric',
  'transaction',
  'user_report_v2',
])
const maxEntries = 1000
/** Beyond what any program loses in the seconds between two of its reports. */
const maxQuantity = 1_000_000_000

/** Each reason and category once. Throws bad_request for what is no JSON object. */
export function clientReportFrom(payload: Buffer): Discarded[] {
  const report = objectFrom(parseJson(payload).value)
  const list = Array.isArray(report?.discarded_events) ? report.discarded_events.slice(0, maxEntries) : []
  const sums = new Map<string, Discarded>()
  for (const element of list) {
    const entry = objectFrom(element)
    const quantity = entry?.quantity
    if (entry === null || typeof quantity !== 'number' || !Number.isSafeInteger(quantity)) continue
    if (quantity < 1 || quantity > maxQuantity) continue
    const reason = known(reasons, entry.reason)
    const category = known(categories, entry.category)
    const key = `${reason} ${category}`
    const sum = sums.get(key)
    if (sum) sum.quantity += quantity
    else sums.set(key, { reason, category, quantity })
  }
  return [...sums.values()]
}

function known(names: Set<string>, value: unknown): string {
  return typeof value === 'string' && names.has(value) ? value : 'other'
}

export interface FeedbackContext {
  received_at: number
  /** The envelope's. */
  event_id: string | null
}

/** `{event_id, name, email, comments}`; null when it says nothing, or of no event. */
export function userReportFrom(payload: Buffer, { received_at, event_id }: FeedbackContext): Feedback | null {
  const report = objectFrom(parseJson(payload).value)
  const about = eventIdFrom(report?.event_id) ?? event_id
  const message = textOf(report?.comments, 4096)
  if (report === null || about === null || message === null) return null
  const said = { event_id: about, name: textOf(report.name, 200), email: textOf(report.email, 254), message, url: null }
  return { id: idOf(said), ...said, received_at }
}

/** An event whose `contexts.feedback` is what was said; null when that is nothing. */
export function feedbackFrom(payload: Buffer, context: FeedbackContext): Feedback | null {
  const event = objectFrom(parseJson(payload).value)
  const feedback = objectFrom(objectFrom(event?.contexts)?.feedback)
  const message = textOf(feedback?.message, 4096)
  if (event === null || feedback === null || message === null) return null
  const said = {
    event_id: eventIdFrom(feedback.associated_event_id),
    name: textOf(feedback.name, 200),
    email: textOf(feedback.contact_email, 254),
    message,
    url: textOf(feedback.url ?? objectFrom(event.request)?.url, 2048),
  }
  const id = context.event_id ?? eventIdFrom(event.event_id) ?? idOf(said)
  return { id, ...said, received_at: context.received_at }
}

/** Name and address are what a person gave to be answered: of these only the name is read for secrets. */
export function scrubbedFeedback(said: Feedback, scrub: (text: string) => string): Feedback {
  return {
    ...said,
    name: said.name && scrub(said.name),
    email: said.email && !isAddress(said.email) ? scrub(said.email) : said.email,
    message: scrub(said.message),
    url: said.url && scrub(said.url),
  }
}

function isAddress(text: string): boolean {
  return /^[^\s@:/]{1,64}@[^\s@:/]{1,190}$/.test(text)
}

function textOf(value: unknown, most: number): string | null {
  const text = textFrom(value, most)
  return text === null ? null : cut(storable(text), most)
}

/** Somebody who says more about the same event says something else. */
function idOf(said: JsonObject): string {
  return createHash('sha256').update(JSON.stringify(said)).digest('hex').slice(0, 32)
}
