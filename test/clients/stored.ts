// What is in PostgreSQL of an event that a client sent, beside what it sent.

import assert from 'node:assert/strict'
import type { TestApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'
import type { SentEvent } from './recorder.ts'

export interface StoredEvent {
  issue_id: string
  timestamp: Date
  received_at: Date
  level: string
  environment: string | null
  release: string | null
  platform: string
  title: string
  culprit: string | null
  message: string | null
  transaction: string | null
  server_name: string | null
  user_key: string | null
  payload: Record<string, unknown>
}

export async function storedEvent(app: TestApp, event_id: string): Promise<StoredEvent> {
  const [row, ...more] = await app.database.sql<StoredEvent>('select * from events where project_id = $1 and id = $2', [
    app.project_id,
    event_id,
  ])
  assert.ok(row, `no event ${event_id} is stored`)
  assert.equal(more.length, 0)
  return row
}

/** The values of each tag of the issue of one event. Tags are counted apart and folded in a moment later. */
export async function storedTags(
  app: TestApp,
  { issue_id }: StoredEvent,
  wanted: string[],
): Promise<Map<string, string>> {
  return eventually(async () => {
    const rows = await app.database.sql<{ key: string; value: string }>(
      'select key, value from issue_tags where project_id = $1 and issue_id = $2',
      [app.project_id, issue_id],
    )
    const tags = new Map(rows.map(({ key, value }) => [key, value]))
    assert.deepEqual(
      wanted.filter((key) => !tags.has(key)),
      [],
    )
    return tags
  })
}

/** Of Python's logging, which raven sends. */
const levels: Record<string, string> = { 10: 'debug', 20: 'info', 30: 'warning', 40: 'error', 50: 'fatal' }

interface Expected {
  title: string
  culprit: RegExp | null
  message: string | null
  user_key: string | null
  /** Paths of the payload that differ from what was sent on purpose, as `differences` writes them. */
  changed?: string[]
}

/** Every field as it was sent, every column as the fields say, every tag counted with the issue. */
export async function assertStored(app: TestApp, sent: SentEvent, expected: Expected): Promise<StoredEvent> {
  const stored = await storedEvent(app, sent.event_id)
  // A key in an address is scrubbed, as all of them are.
  const scrubbed = JSON.parse(JSON.stringify(sent).replaceAll(`//${app.public_key}@`, '//[Filtered]@'))
  assert.deepEqual(differences(withTodaysName(scrubbed), stored.payload), expected.changed ?? [])
  assert.deepEqual(stored.payload.errors ?? [], [], 'no field of a real client is noted as wrong')
  const { title, message, user_key, level, environment, release, platform, transaction, server_name } = stored
  assert.deepEqual(
    { title, message, user_key, level, environment, release, platform, transaction, server_name },
    {
      title: expected.title,
      message: expected.message,
      user_key: expected.user_key,
      level: levels[String(sent.level)] ?? sent.level ?? 'error',
      environment: sent.environment ?? null,
      release: sent.release ?? null,
      platform: sent.platform,
      transaction: sent.transaction ?? null,
      server_name: sent.server_name ?? null,
    },
  )
  if (expected.culprit === null) assert.equal(stored.culprit, null)
  else assert.match(stored.culprit ?? '', expected.culprit)
  assert.equal(stored.timestamp.getTime(), Math.floor(millisecondsOf(sent.timestamp)))
  const tags = tagsOf(sent)
  const counted = await storedTags(app, stored, Object.keys(tags))
  assert.deepEqual(Object.fromEntries(Object.keys(tags).map((key) => [key, counted.get(key)])), tags)
  return stored
}

/** raven for Python calls the message by its name of before 2018. */
function withTodaysName({ 'sentry.interfaces.Message': logentry, ...event }: Record<string, unknown>) {
  return logentry === undefined ? event : { ...event, logentry }
}

function tagsOf(sent: SentEvent): Record<string, string> {
  const pairs = Array.isArray(sent.tags) ? (sent.tags as [string, unknown][]) : Object.entries(sent.tags ?? {})
  return Object.fromEntries(
    pairs.filter(([, value]) => value !== null && value !== '').map(([key, value]) => [key, String(value)]),
  )
}

/** Seconds, or a time in UTC with or without its zone. */
function millisecondsOf(timestamp: unknown): number {
  if (typeof timestamp === 'number') return timestamp * 1000
  const text = String(timestamp)
  return Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text}Z`)
}

/**
 * The paths at which what is stored differs from what was sent, in the order of sending. A field that was sent as null or as
 * an empty list may be absent. The three ways in which clients write a list of values (`[…]`, `{values: […]}`, one alone) are one.
 */
export function differences(sent: unknown, stored: unknown, path = ''): string[] {
  if (stored === undefined && isNothing(sent)) return []
  if (sent === null && stored === '' && contextLine.test(path)) return []
  if (typeof sent === 'number' && isText(path)) return differences(String(sent), stored, path)
  if (typeof sent !== 'object' || sent === null || typeof stored !== 'object' || stored === null) {
    return Object.is(sent, stored) ? [] : [`${path}: ${shown(sent)} became ${shown(stored)}`]
  }
  if (['exception', 'breadcrumbs', 'threads'].includes(path)) {
    const [before, after] = [valuesOf(sent), valuesOf(stored)]
    if (before.length !== after.length) return [`${path}: ${before.length} became ${after.length}`]
    return before.flatMap((value, at) => differences(value, after[at], `${path}[${at}]`))
  }
  if (Array.isArray(sent)) {
    if (!Array.isArray(stored) || stored.length !== sent.length)
      return [`${path}: ${shown(sent)} became ${shown(stored)}`]
    return sent.flatMap((value, at) => differences(value, stored[at], `${path}[${at}]`))
  }
  const after = stored as Record<string, unknown>
  return Object.entries(sent).flatMap(([key, value]) =>
    differences(value, after[key], path === '' ? key : `${path}.${key}`),
  )
}

/** What some clients send as numbers, and is text. */
function isText(path: string): boolean {
  return path === 'user.id' || path.endsWith('.thread_id') || /^threads\[\d+\]\.id$/.test(path)
}

/** Lines past the end of a file, which sentry-ruby sends as null. */
const contextLine = /\.(pre|post)_context\[\d+\]$/

/** What says nothing may be left out. */
function isNothing(sent: unknown): boolean {
  return ['null', '""', '[]', '{}', '{"values":[]}'].includes(JSON.stringify(sent))
}

export function valuesOf(container: object): unknown[] {
  if (Array.isArray(container)) return container
  return 'values' in container && Array.isArray(container.values) ? container.values : [container]
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 120)
}
