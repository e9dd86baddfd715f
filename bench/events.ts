// The events of all figures: as a Node SDK sends them, of 50 issues, with users, releases, servers and tags that repeat as
// they do in life. 2,000 of them are made ahead; what is sent differs from them by its event_id only. 1.5 KB is an error
// with a short stack; 12 KB one with 24 frames with their lines of source, and 40 breadcrumbs.

import { randomUUID } from 'node:crypto'
import { type Event, parseEvent } from '../server/ingest/event.ts'

export const sizes = { small: 1536, large: 12_288 } as const
const variants = 2000
const issues = 50

export interface Sample {
  /** All of the same size. */
  json: Buffer
  issue: number
  level: string
  environment: string
}

/** Where in every sample the 32 digits of its event_id begin. */
export const idOffset = Buffer.byteLength('{"event_id":"')

export const newId = (): string => randomUUID().replaceAll('-', '')

export function createSamples(now: number, bytes: number = sizes.small): Sample[] {
  return Array.from({ length: variants }, (_, n) => {
    const issue = (n * 7) % issues
    const level = issue % 10 === 0 ? 'warning' : 'error'
    const environment = n % 5 === 0 ? 'staging' : 'production'
    const event = payload(n, issue, level, environment, now)
    const json = encode(bytes > sizes.small ? enlarged(event, n, issue) : event, bytes)
    return { json, issue, level, environment }
  })
}

/** The samples as the writer gets them. */
export function eventsFrom(samples: Sample[], now: number): Event[] {
  return samples.map((sample) => parseEvent(sample.json, { received_at: now }))
}

function payload(n: number, issue: number, level: string, environment: string, now: number) {
  const route = `/api/${['carts', 'orders', 'users', 'search', 'invoices'][issue % 5]}/:id`
  const frame = (depth: number) => ({
    filename: `/srv/shop/dist/module-${issue}/step-${depth}.js`,
    function: `step${depth}of${issue}`,
    lineno: 10 * depth + issue,
    colno: 7,
    in_app: depth > 1,
  })
  return {
    event_id: newId(),
    timestamp: now / 1000,
    platform: 'node',
    level,
    environment,
    release: `shop@2.${n % 3}.0`,
    server_name: `web-${n % 8}`,
    transaction: `GET ${route}`,
    exception: {
      values: [
        {
          type: `Error${issue}`,
          value: `Could not load item ${n} of cart ${n * 31}: the service answered ${500 + (issue % 4)}`,
          stacktrace: { frames: [1, 2, 3, 4, 5].map(frame) },
          mechanism: { type: 'generic', handled: n % 2 === 0 },
        },
      ],
    },
    user: { id: String(1 + ((n * 13) % 400)), ip_address: '203.0.113.7' },
    tags: { customer: `c${n % 20}`, region: ['eu-west', 'eu-north', 'us-east'][n % 3], feature: `f${n % 6}` },
    contexts: { runtime: { name: 'node', version: 'v20.19.5' }, os: { name: 'Linux', version: '6.1' } },
    sdk: { name: 'sentry.javascript.node', version: '11.12.0' },
  }
}

/** Text that repeats itself about as much as source and log lines do. */
function enlarged(event: ReturnType<typeof payload>, n: number, issue: number) {
  const names = ['cart', 'order', 'item', 'price', 'user', 'stock', 'total', 'query']
  const name = (at: number) => names[at % names.length]!
  const line = (at: number) => `  const ${name(at)}${at} = await this.${name(at * 3 + issue)}s.find(${name(at + 1)}Id)`
  const frames = Array.from({ length: 24 }, (_, depth) => ({
    filename: `/srv/shop/dist/module-${issue}/step-${depth}.js`,
    function: `step${depth}of${issue}`,
    lineno: 10 * depth + issue,
    colno: 7,
    in_app: depth > 8,
    context_line: line(depth),
    pre_context: [line(depth + 1)],
    post_context: [line(depth + 2)],
  }))
  const breadcrumbs = Array.from({ length: 40 }, (_, at) => ({
    timestamp: event.timestamp - 40 + at,
    category: at % 3 === 0 ? 'http' : 'console',
    level: 'info',
    message: `${name(n + at)} ${((n * 7919 + at * 104729) % 1e6).toString(36)} took ${(n * at) % 97} ms`,
  }))
  const [exception] = event.exception.values
  return { ...event, exception: { values: [{ ...exception, stacktrace: { frames } }] }, breadcrumbs }
}

/** Filled up to the exact size: then every request has the same length, and a buffer fits them all. */
function encode(value: object, bytes: number): Buffer {
  const plain = Buffer.byteLength(JSON.stringify({ ...value, extra: { note: '' } }))
  if (plain > bytes) throw new Error(`a sample has ${plain} bytes`)
  return Buffer.from(JSON.stringify({ ...value, extra: { note: 'x'.repeat(bytes - plain) } }))
}
