// The pure parsers, and what has to hold for whatever they are given: a value that keeps every promise of its type, or an
// AppError that a client may see. Everything else that is thrown is a fault of ours.

import assert from 'node:assert/strict'
import { isUtf8 } from 'node:buffer'
import { toUSVString } from 'node:util'
import { AppError, statusOf } from '../../server/errors.ts'
import { createBodyDecoder, decodeStoreBody } from '../../server/ingest/body.ts'
import { dsnFrom, publicKeyFrom } from '../../server/ingest/credentials.ts'
import { parseEnvelope } from '../../server/ingest/envelope.ts'
import { type Event, parseEvent } from '../../server/ingest/event.ts'
import { keepUseful, sortItems } from '../../server/ingest/items.ts'
import { elementsFrom, maxEventBytes, parseJson, sentIdFrom, startsArray } from '../../server/ingest/json.ts'
import { parseNotification } from '../../server/notify/channels.ts'
import { ClientMessage, Filters, levels } from '../../server/protocol.ts'
import { cursorFrom, parseCursor } from '../../server/relay/cursor.ts'
import { eventChange, issueChange } from '../../server/relay/messages.ts'
import { topicsOfFilters } from '../../server/relay/topics.ts'
import { encodeBatch } from '../../server/write/encode.ts'
import type { Target } from './cases.ts'
import { events } from './corpus.ts'
import { createDamages } from './damaged.ts'
import {
  arrayBytes,
  credentialText,
  cursorText,
  encodedBytes,
  envelopeBytes,
  eventBytes,
  messageBytes,
  notificationText,
  storeBytes,
  streamQuery,
} from './generate.ts'
import { mutatedBytes } from './mutate.ts'
import { serverMessage } from './shapes.ts'

const damages = createDamages()
const now = Date.UTC(2026, 0, 1)
const decode = createBodyDecoder()

/** Null when it was refused as a client may be told. */
function attempt<T>(parse: () => T): T | null {
  try {
    return parse()
  } catch (error) {
    assertRefusal(error)
    return null
  }
}

function assertRefusal(error: unknown): void {
  if (!(error instanceof AppError)) throw error
  assert.ok(error.code in statusOf && error.status < 500, `refused with ${error.code}`)
  assert.ok(error.message.length > 10 && error.message.length < 1_000, `refused with "${error.message}"`)
}

/** PostgreSQL takes neither NUL nor half a surrogate pair. */
function assertText(name: string, text: string | null, most: number): void {
  if (text === null) return
  assert.ok(text.length <= most, `${name} has ${text.length} units`)
  assert.ok(!text.includes('\0') && text === toUSVString(text), `${name} cannot be stored: ${JSON.stringify(text)}`)
}

function assertEvent(event: Event): void {
  assert.match(event.id, /^[0-9a-f]{32}$/)
  for (const hash of event.hashes) assert.match(hash, /^[0-9a-f]{32}$/)
  assert.ok(levels.includes(event.level), event.level)
  assert.ok(event.timestamp <= now + 60_000 && event.timestamp >= now - 30 * 86_400_000, `${event.timestamp}`)
  assertText('title', event.title, 512)
  assertText('culprit', event.culprit, 200)
  assertText('message', event.message, 1024)
  assertText('transaction', event.transaction, 200)
  assertText('environment', event.environment, 64)
  assertText('release', event.release, 250)
  assertText('platform', event.platform, 64)
  assertText('server_name', event.server_name, 256)
  assertText('user', event.user, 260)
  assert.ok(event.title !== '' && event.platform !== '')
  assert.ok(event.tags.length <= 70, `${event.tags.length} tags`)
  assert.equal(new Set(event.tags.map(([key]) => key)).size, event.tags.length)
  for (const [key, value] of event.tags) {
    assertText('tag', key, 200)
    assertText(`tag ${key}`, value, 200)
    assert.ok(key !== '' && value !== '')
  }
  assert.ok(isUtf8(event.payload) && event.payload.length < 3 * maxEventBytes)
  const text = JSON.stringify(JSON.parse(event.payload.toString()))
  assert.ok(text.startsWith('{'))
  // stringify escapes exactly what cannot be stored; an escaped backslash before it makes it plain text.
  assert.doesNotMatch(text, /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/)
}

/** What is stored says the same as what was sent: grouped again later, an event must not move. */
function assertStable(event: Event): void {
  const again = parseEvent(event.payload, { received_at: now, event_id: event.id })
  assert.deepEqual({ ...again, timestamp: 0, tags: [] }, { ...event, timestamp: 0, tags: [] })
}

export const parserTargets: Record<string, Target> = {
  parseEvent(random) {
    const must_say_something = random.below(2) === 0
    const event = attempt(() => parseEvent(eventBytes(random), { received_at: now, must_say_something }))
    if (event === null) return
    assertEvent(event)
    assertStable(event)
    encodeBatch('1', [event, event])
  },

  parseEnvelope(random) {
    const bytes = envelopeBytes(random)
    const envelope = attempt(() => parseEnvelope(bytes))
    if (envelope === null) return
    const { header, items } = envelope
    if (header.event_id !== null) assert.match(header.event_id, /^[0-9a-f]{32}$/)
    assert.ok(header.sent_at === null || Number.isFinite(header.sent_at))
    assertText('sdk_name', header.sdk_name, 200)
    const dsn = dsnFrom(header.dsn)
    if (dsn !== null) assert.match(dsn.project, /^(0|[1-9]\d*)$/)
    assert.ok(items.length <= 1000)
    assert.ok(items.reduce((sum, item) => sum + item.size, 0) <= bytes.length)
    const first = items.find((item) => item.type === 'event')
    if (!first) return
    sentIdFrom(first.payload)
    const event = attempt(() => parseEvent(first.payload, { received_at: now, ...header }))
    if (event) assertEvent(event)
  },

  damaged(_random, number) {
    const { what, bytes } = damages.make(number)
    const parsed = attempt(() => parseEnvelope(bytes, keepUseful()))
    if (parsed === null) return
    const { header, items } = parsed
    const { event, reports, dropped } = sortItems(items, { received_at: now, event_id: header.event_id })
    assert.ok(dropped.length + (event ? 1 : 0) <= items.length, what)
    for (const said of reports?.feedback ?? []) assertText('message', said.message, 4096)
    const stored = event && attempt(() => parseEvent(event.payload, { received_at: now, ...header }))
    if (stored) assertEvent(stored)
  },

  parseJson(random) {
    const bytes = mutatedBytes(random, eventBytes(random), events)
    const parsed = attempt(() => parseJson(bytes))
    if (parsed) assert.deepEqual(rounded(parsed.value), rounded(JSON.parse(parsed.text.toString())))
  },

  elementsFrom(random) {
    const bytes = arrayBytes(random)
    const elements = attempt(() => elementsFrom(bytes, 1000))
    if (elements !== null)
      assert.ok(startsArray(bytes) && elements.every((element) => sentIdFrom(element) !== undefined))
    let value: unknown
    try {
      value = JSON.parse(bytes.toString())
    } catch {
      return
    }
    if (!Array.isArray(value) || value.length > 1000) return
    // As text: comparing values of 3,000 levels overflows the stack of the comparison.
    const texts = elements?.map((element) => JSON.stringify(JSON.parse(element.toString())))
    assert.deepEqual(
      texts,
      value.map((element) => JSON.stringify(element)),
    )
  },

  async createBodyDecoder(random) {
    const most = random.pick([undefined, maxEventBytes, 1_000])
    const { bytes, encoding } = encodedBytes(random, random.pick(events))
    try {
      const body = await decode(bytes, encoding, most)
      assert.ok(body.length <= (most ?? 40 * 1024 * 1024))
    } catch (error) {
      assertRefusal(error)
    }
  },

  async decodeStoreBody(random) {
    try {
      await decodeStoreBody(storeBytes(random), decode)
    } catch (error) {
      assertRefusal(error)
    }
  },

  publicKeyFrom(random) {
    const maybe = () => (random.below(2) === 0 ? '' : credentialText(random))
    const sent = { query: maybe(), xSentryAuth: maybe(), authorization: maybe(), bearer: random.below(2) === 0 }
    const key = attempt(() => publicKeyFrom(sent))
    if (key !== null) assert.ok(key.length > 0)
  },

  parseNotification(random) {
    const notification = parseNotification(notificationText(random))
    if (notification === null) return
    if ('cursor' in notification) assertHandedOut(notification.cursor)
    if (notification.action === 'events') {
      for (const entry of notification.events) serverMessage(eventChange(notification.project_id, cursor, entry).text)
    }
    if (notification.action === 'issues') {
      for (const entry of notification.issues) serverMessage(issueChange(notification.project_id, cursor, entry).text)
    }
  },

  parseCursor(random) {
    const position = parseCursor(cursorText(random))
    // What is no cursor of ours is one of no epoch.
    if (position.epoch === '') assert.equal(position.xid, 0n)
    else assert.deepEqual(parseCursor(cursorFrom(position)), position)
  },

  clientMessage(random) {
    let value: unknown
    try {
      value = JSON.parse(messageBytes(random).toString())
    } catch {
      return
    }
    const message = ClientMessage.safeParse(value)
    if (message.success && message.data.type === 'subscribe') assertTopics(message.data.filters)
  },

  filters(random) {
    const search = new URLSearchParams(streamQuery(random))
    const filters = Filters.safeParse({ level: search.getAll('level'), environment: search.getAll('environment') })
    if (filters.success) assertTopics(filters.data)
  },
}

/** As JSON.parse reads it, which rounds whole numbers that parseJson keeps as text. */
function rounded(value: unknown): unknown {
  if (typeof value === 'string' && /^-?[1-9]\d{15,}$/.test(value)) return Number(value)
  if (Array.isArray(value)) return value.map(rounded)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, rounded(inner)]))
}

const cursor = '1.00000001-751'

/** A cursor that clients are given is one that they may come back with. */
function assertHandedOut(xid: string): void {
  const position = { epoch: '1.00000001', xid: BigInt(xid) }
  assert.deepEqual(parseCursor(cursorFrom(position)), position, 'clients would be given a cursor that is none')
}

function assertTopics({ level = [], environment = [] }: { level?: Filters['level']; environment?: string[] }): void {
  const topics = topicsOfFilters('1', 'e', { level, environment })
  assert.ok(topics.length >= 1 && topics.length <= 250)
  assert.equal(new Set(topics).size, topics.length, 'a socket in one topic twice')
}
