// What becomes of each type of envelope item: https://develop.sentry.dev/sdk/data-model/envelope-items/. Whatever there is in
// an envelope, it is answered with 200: an SDK that is refused for one item loses the others too.

import { AppError } from '../errors.ts'
import type { EnvelopeItem, Keep } from './envelope.ts'
import { maxEventBytes } from './json.ts'
import {
  clientReportFrom,
  type Discarded,
  type Feedback,
  type FeedbackContext,
  feedbackFrom,
  userReportFrom,
} from './reports.ts'

/** Sentry's data category of each type, in which SDKs count what is dropped. Other types are `other`: a client must not be able to make up metrics. */
const categories: Record<string, string> = {
  event: 'error',
  transaction: 'transaction',
  span: 'span',
  otel_span: 'span',
  session: 'session',
  sessions: 'session',
  client_report: 'internal',
  attachment: 'attachment',
  user_report: 'user_report_v2',
  feedback: 'feedback',
  check_in: 'monitor',
  log: 'log_item',
  otel_log: 'log_item',
  trace_metric: 'trace_metric',
  metric: 'metric_bucket',
  statsd: 'metric_bucket',
  metric_buckets: 'metric_bucket',
  metric_meta: 'metric_bucket',
  profile: 'profile',
  profile_chunk: 'profile_chunk',
  profile_chunk_ui: 'profile_chunk_ui',
  replay_event: 'replay',
  replay_recording: 'replay',
  replay_video: 'replay',
  security: 'security',
  raw_security: 'security',
  nel: 'security',
  unreal_report: 'attachment',
  form_data: 'attachment',
  integration: 'attachment',
}

export interface Dropped {
  /** An item type, or `other`. */
  type: string
  category: string
  /** Of a container: how many it says it holds. */
  quantity: number
}

const known = new Map(Object.entries(categories))

export function droppedFrom({ type, header }: EnvelopeItem): Dropped {
  const category = known.get(type)
  const { item_count } = header
  const isCount = Number.isInteger(item_count) && (item_count as number) > 0 && (item_count as number) <= 10_000
  return category === undefined
    ? { type: 'other', category: 'other', quantity: 1 }
    : { type, category, quantity: isCount ? (item_count as number) : 1 }
}

/** Bytes of a payload, and how many of the type are looked at in one envelope; the others are counted and dropped. */
const kept: Record<string, { bytes: number; most: number }> = {
  // "At most one event per envelope; if several arrive process the first."
  event: { bytes: maxEventBytes, most: 1 },
  client_report: { bytes: 100 * 1024, most: 10 },
  user_report: { bytes: 16 * 1024, most: 10 },
  feedback: { bytes: maxEventBytes, most: 2 },
}

/** For one envelope: what is dropped is read past, and never held. */
export function keepUseful(): Keep {
  const seen = new Map<string, number>()
  return (type) => {
    const rule = Object.hasOwn(kept, type) ? kept[type] : undefined
    if (rule === undefined) return 0
    const count = (seen.get(type) ?? 0) + 1
    seen.set(type, count)
    return count > rule.most ? 0 : rule.bytes
  }
}

export interface Sorted {
  event: EnvelopeItem | null
  /** Null when there are none. */
  reports: { discarded: Discarded[]; feedback: Feedback[] } | null
  dropped: EnvelopeItem[]
}

/** What is stored and what is not. A report that cannot be read, or says nothing, is dropped. */
export function sortItems(items: EnvelopeItem[], context: FeedbackContext): Sorted {
  const sorted: Sorted = { event: null, reports: null, dropped: [] }
  for (const item of items) {
    if (item.type === 'event' && sorted.event === null) sorted.event = item
    else if (!addReport(sorted, item, context)) sorted.dropped.push(item)
  }
  return sorted
}

function addReport(sorted: Sorted, { type, size, payload }: EnvelopeItem, context: FeedbackContext): boolean {
  if ((type !== 'client_report' && type !== 'user_report' && type !== 'feedback') || payload.length < size) return false
  try {
    const discarded = type === 'client_report' ? clientReportFrom(payload) : []
    const said =
      type === 'client_report' ? null : (type === 'feedback' ? feedbackFrom : userReportFrom)(payload, context)
    if (discarded.length === 0 && said === null) return false
    sorted.reports ??= { discarded: [], feedback: [] }
    sorted.reports.discarded.push(...discarded)
    if (said !== null) sorted.reports.feedback.push(said)
    return true
  } catch (error) {
    if (error instanceof AppError) return false
    throw error
  }
}
