// A batch as the parameters of ingest_batch: parallel arrays in PostgreSQL's binary format, so that payloads are copied
// and never escaped, neither here nor there. Format: array_recv in src/backend/utils/adt/arrayfuncs.c.

import type { Event } from '../ingest/event.ts'

const oids = { int4: 23, text: 25, json: 114, timestamptz: 1184, uuid: 2950 }
/** PostgreSQL counts microseconds from 2000-01-01. */
const epoch2000 = 946_684_800_000

export const ingestBatch = {
  name: 'ingest_batch',
  text: 'select r_statuses, r_issue_ids::text, r_overflow::text from ingest_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28)',
}

export interface EncodeOptions {
  /** 1-based numbers of events whose tags are left out, see db/ingest_batch.sql. */
  uncounted?: number[] | undefined
  /** Whether this hash is bound to an issue already: then it is not said again what it is of. */
  isBound?: ((hash: string) => boolean) | undefined
}

export function encodeBatch(
  projectId: string,
  events: Event[],
  { uncounted = [], isBound = () => false }: EncodeOptions = {},
): (string | Buffer | null)[] {
  const { hashes, components, groups, others } = groupsOf(events, isBound)
  const tags = countTags(events, groups, new Set(uncounted))
  return [
    projectId,
    uuidArray(hashes),
    uuidArray(events.map((event) => event.id)),
    intArray(groups),
    timestampArray(events.map((event) => event.received_at)),
    timestampArray(events.map((event) => event.timestamp)),
    textArray(events.map((event) => event.level)),
    textArray(events.map((event) => event.environment)),
    textArray(events.map((event) => event.release)),
    textArray(events.map((event) => event.platform)),
    textArray(events.map((event) => event.title)),
    textArray(events.map((event) => event.culprit)),
    textArray(events.map((event) => event.message)),
    textArray(events.map((event) => event.transaction)),
    textArray(events.map((event) => event.server_name)),
    textArray(events.map((event) => event.user)),
    bufferArray(
      oids.json,
      events.map((event) => event.payload),
    ),
    textArray(tags.keys),
    textArray(tags.values),
    intArray(tags.groups),
    intArray(tags.pairs),
    intArray(tags.counts),
    intArray(uncounted),
    events[0]?.grouping_algo ?? null,
    bufferArray(oids.json, components),
    uuidArray(others.map((other) => other.hash)),
    intArray(others.map((other) => other.group)),
    bufferArray(
      oids.json,
      others.map((other) => other.components),
    ),
  ]
}

interface Other {
  group: number
  /** Null where an event of the group has one hash only. */
  hash: string | null
  components: Buffer | null
}

/**
 * Each first hash once, with what it is of, the 1-based number of each event's, and the pairs with second hashes, in the order of
 * events. What is bound already is left out.
 */
function groupsOf(events: Event[], isBound: (hash: string) => boolean) {
  const numbers = new Map<string, number>()
  const components: (Buffer | null)[] = []
  const others: Other[] = []
  const pairs = new Set<string>()
  const groups = events.map((event) => {
    const [first, second = null] = event.hashes as [string, string?]
    let group = numbers.get(first)
    if (group === undefined) {
      group = components.push(isBound(first) ? null : Buffer.from(event.components[0]!))
      numbers.set(first, group)
    }
    const unsaid = components[group - 1] !== null || (second !== null && !isBound(second))
    if (unsaid && pairs.size < pairs.add(`${first}${second}`).size) {
      others.push({ group, hash: second, components: second === null ? null : Buffer.from(event.components[1]!) })
    }
    return group
  })
  return { hashes: [...numbers.keys()], components, groups, others }
}

/** Header of a one-dimensional array, then room for `bytes` of elements. An empty array has no dimension. */
function arrayBuffer(oid: number, length: number, bytes: number, hasNull: boolean): { buffer: Buffer; start: number } {
  const start = length === 0 ? 12 : 20
  const buffer = Buffer.allocUnsafe(start + bytes)
  buffer.writeInt32BE(length === 0 ? 0 : 1, 0)
  buffer.writeInt32BE(hasNull ? 1 : 0, 4)
  buffer.writeInt32BE(oid, 8)
  if (length > 0) {
    buffer.writeInt32BE(length, 12)
    buffer.writeInt32BE(1, 16)
  }
  return { buffer, start }
}

export function textArray(values: (string | null)[]): Buffer {
  let most = 0
  let hasNull = false
  for (const value of values) {
    if (value === null) hasNull = true
    else most += value.length > short ? Buffer.byteLength(value) : 3 * value.length
  }
  const { buffer, start } = arrayBuffer(oids.text, values.length, most + 4 * values.length, hasNull)
  let at = start
  for (const value of values) {
    const length = value === null ? -1 : writeText(buffer, value, at + 4)
    buffer.writeInt32BE(length, at)
    at += 4 + Math.max(0, length)
  }
  return buffer.subarray(0, at)
}

const short = 32

/** Returns how many bytes it takes. Short ASCII is written here: a call into C++ costs more than 32 steps of this loop. */
function writeText(buffer: Buffer, value: string, at: number): number {
  if (value.length > short) return buffer.write(value, at)
  for (let index = 0; index < value.length; index++) {
    const code = value.charCodeAt(index)
    if (code > 0x7f) return buffer.write(value, at)
    buffer[at + index] = code
  }
  return value.length
}

export function bufferArray(oid: number, values: (Buffer | null)[]): Buffer {
  const total = values.reduce((sum, value) => sum + (value?.length ?? 0) + 4, 0)
  const { buffer, start } = arrayBuffer(oid, values.length, total, values.includes(null))
  let at = start
  for (const value of values) {
    at = buffer.writeInt32BE(value === null ? -1 : value.length, at)
    if (value !== null) at += value.copy(buffer, at)
  }
  return buffer
}

/** From 32 hex digits each. */
export function uuidArray(values: (string | null)[]): Buffer {
  const nulls = values.filter((value) => value === null).length
  const { buffer, start } = arrayBuffer(oids.uuid, values.length, values.length * 20 - nulls * 16, nulls > 0)
  let at = start
  for (const value of values) {
    at = buffer.writeInt32BE(value === null ? -1 : 16, at)
    if (value !== null) at += buffer.write(value, at, 'hex')
  }
  return buffer
}

/** From milliseconds since 1970, fractions kept to the microsecond. */
export function timestampArray(values: number[]): Buffer {
  const { buffer, start } = arrayBuffer(oids.timestamptz, values.length, values.length * 12, false)
  let at = start
  for (const value of values) {
    const micros = Math.round((value - epoch2000) * 1000)
    at = buffer.writeInt32BE(8, at)
    // In two halves: a BigInt for each costs ten times as much. The shift keeps the sign of times before 2000.
    at = buffer.writeInt32BE(Math.floor(micros / 0x1_0000_0000), at)
    at = buffer.writeInt32BE(micros | 0, at)
  }
  return buffer
}

export function intArray(values: number[]): Buffer {
  const { buffer, start } = arrayBuffer(oids.int4, values.length, values.length * 8, false)
  let at = start
  for (const value of values) {
    at = buffer.writeInt32BE(4, at)
    at = buffer.writeInt32BE(value, at)
  }
  return buffer
}

/** Tags repeat: each pair once, and how many events of each hash have it. */
function countTags(events: Event[], groups: number[], uncounted: Set<number>) {
  const known = new Map<string, Map<string, number>>()
  const keys: string[] = []
  const values: string[] = []
  const counts = new Map<number, number>()
  for (const [index, event] of events.entries()) {
    if (uncounted.has(index + 1)) continue
    for (const [key, value] of event.tags) {
      let numbers = known.get(key)
      if (!numbers) {
        numbers = new Map()
        known.set(key, numbers)
      }
      let pair = numbers.get(value)
      if (pair === undefined) {
        keys.push(key)
        pair = values.push(value)
        numbers.set(value, pair)
      }
      const both = groups[index]! * pairsApart + pair
      counts.set(both, (counts.get(both) ?? 0) + 1)
    }
  }
  const both = [...counts.keys()]
  return {
    keys,
    values,
    groups: both.map((number) => Math.floor(number / pairsApart)),
    pairs: both.map((number) => number % pairsApart),
    counts: [...counts.values()],
  }
}

/** More than the tags of a batch: a hash and a pair are one number. */
const pairsApart = 1_000_000
