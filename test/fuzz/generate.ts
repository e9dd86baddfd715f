// Inputs as strangers send them: most are almost right, some are anything.

import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { createRandom, type Random } from '../support/random.ts'
import {
  clientMessages,
  credentials,
  cursors,
  envelopes,
  events,
  eventValues,
  notificationValues,
  securityReports,
} from './corpus.ts'
import { mutatedBytes, mutatedJson, mutatedJsonBytes, mutatedText } from './mutate.ts'

/** The randomness of one case of a run: each can be repeated without those before it. */
export function randomOf(seed: number, number: number): Random {
  return createRandom((Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b)) >>> 0)
}

export function eventBytes(random: Random): Buffer {
  return random.below(3) === 0
    ? mutatedBytes(random, random.pick(events), events)
    : mutatedJsonBytes(random, random.pick(eventValues), events)
}

const headers: unknown[] = [
  { event_id: '0bbce0e31ed54a6f93610e6bd6f1d4b3', sent_at: '2026-11-23T11:51:03.890Z' },
  { dsn: 'http://0123456789abcdef0123456789abcdef@localhost/1', sdk: { name: 'sentry.javascript.node' } },
  {},
]
const itemHeaders: unknown[] = [
  { type: 'event' },
  { type: 'event', length: 20, content_type: 'application/json' },
  { type: 'attachment', length: 5, filename: 'a.txt' },
  { type: 'session' },
]

export function envelopeBytes(random: Random): Buffer {
  if (random.below(2) === 0) return mutatedBytes(random, random.pick(envelopes), envelopes)
  const line = (values: unknown[]) => {
    const value = random.pick(values)
    return Buffer.from(JSON.stringify(random.below(2) === 0 ? value : mutatedJson(random, value)) ?? '')
  }
  const parts: Buffer[] = [line(headers)]
  for (let n = random.below(4); n > 0; n--) parts.push(line(itemHeaders), eventBytes(random))
  return joined(parts, Buffer.from(random.pick(['\n', '\n', '\n', '\r\n', '\n\n'])))
}

/** `/security/` takes a report, or a list of reports. */
export function reportBytes(random: Random): Buffer {
  return mutatedJsonBytes(random, random.pick(securityReports))
}

export function arrayBytes(random: Random): Buffer {
  const elements = Array.from({ length: random.below(6) }, () => eventBytes(random))
  const bytes = Buffer.concat([Buffer.from('['), joined(elements, Buffer.from(',')), Buffer.from(']')])
  return random.below(3) === 0 ? mutatedBytes(random, bytes, events) : bytes
}

/** `/store/` takes JSON and base64 of zlib. */
export function storeBytes(random: Random): Buffer {
  const bytes = eventBytes(random)
  if (random.below(3) > 0) return bytes
  const packed = Buffer.from(deflateSync(bytes, { level: 1 }).toString('base64'))
  return random.below(2) === 0 ? packed : mutatedBytes(random, packed)
}

export interface Encoded {
  bytes: Buffer
  encoding: string
}

const codecs: Record<string, (bytes: Buffer) => Buffer> = {
  gzip: (bytes) => gzipSync(bytes, { level: 1 }),
  deflate: (bytes) => deflateSync(bytes, { level: 1 }),
  raw: (bytes) => deflateRawSync(bytes, { level: 1 }),
  br: (bytes) => brotliCompressSync(bytes, { params: { 1: 1 } }),
}

/** A body with its Content-Encoding, either of which may be wrong. */
export function encodedBytes(random: Random, bytes: Buffer): Encoded {
  const name = random.pick(Object.keys(codecs))
  const bomb = random.below(400) === 0 ? Buffer.alloc(random.pick([1, 3, 60]) * 1024 * 1024) : bytes
  const packed = codecs[name]!(bomb)
  const encoding = random.below(10) === 0 ? random.pick(['gzip', 'br', 'identity', 'x-gzip', 'zstd', 'gzip, br']) : name
  return {
    bytes: random.below(2) === 0 ? packed : mutatedBytes(random, packed),
    encoding: encoding === 'raw' ? 'deflate' : encoding,
  }
}

export function messageBytes(random: Random): Buffer {
  const value = random.pick(clientMessages)
  return random.below(6) === 0 ? Buffer.from(JSON.stringify(value)) : mutatedJsonBytes(random, value)
}

export function cursorText(random: Random): string {
  return mutatedText(random, random.pick(cursors))
}

export function credentialText(random: Random): string {
  return mutatedText(random, random.pick(credentials))
}

const streamQueries = [
  'level=error&environment=production',
  'level=error&level=fatal&sample=false',
  'environment=a&environment=b%2Fc&since=7300000000000000000.00000001-751',
  'since=1.0000000A-0&sample=true',
]
const listQueries = [
  'status=unresolved&level=error&limit=10',
  'limit=100&cursor=1767225600000000_7',
  'cursor=1_1',
  'limit=0',
]

export const streamQuery = (random: Random): string => mutatedText(random, random.pick(streamQueries))
export const listQuery = (random: Random): string => mutatedText(random, random.pick(listQueries))

/** Part of a path: an id or slug, almost. */
export function pathPart(random: Random): string {
  const part = random.pick([
    '1',
    'app',
    '999999999999999999',
    '%31',
    '%00',
    '%zz',
    '..',
    '%2e%2e%2f',
    '1%0a',
    '%F0%9F%92%A5',
  ])
  return random.below(2) === 0 ? part : mutatedText(random, part)
}

export interface Known {
  project_id: string
  public_key: string
}

const limits = ['0', '9223372036854775807', '18446744073709551615', '18446744073709551616', '99999999999999999999']

/** A payload for channel `mesher` that PostgreSQL takes: text without NUL, below 8,000 bytes. */
export function notificationText(random: Random, known?: Known): string {
  const value = random.pick(notificationValues) as Record<string, unknown>
  const named = known ? { ...value, ...mentioned(value, known) } : { ...value }
  if ('cursor' in named && random.below(6) === 0) named.cursor = random.pick(limits)
  if ('version' in named && random.below(6) === 0) named.version = random.pick([0, -1, 2 ** 31, 2 ** 53 - 1, 2 ** 53])
  const bytes = random.below(6) === 0 ? Buffer.from(JSON.stringify(named)) : mutatedJsonBytes(random, named)
  const text = bytes.toString('utf8', 0, 7_900).replaceAll('\0', '')
  // What broken bytes became may be longer than they were.
  return Buffer.byteLength(text) < 7_900 ? text : text.slice(0, 2_600)
}

/** What a stranger who listens could have heard. */
function mentioned(value: Record<string, unknown>, known: Known): Partial<Known> {
  const names = Object.keys(known) as (keyof Known)[]
  return Object.fromEntries(names.filter((name) => name in value).map((name) => [name, known[name]]))
}

function joined(parts: Buffer[], separator: Buffer): Buffer {
  return Buffer.concat(parts.flatMap((part, at) => (at === 0 ? [part] : [separator, part])))
}
