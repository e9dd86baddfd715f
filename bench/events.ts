// The events of all figures: 1.5 KB as a Node SDK sends them, of 50 issues, with users, releases, servers and tags that
// repeat as they do in life. 2,000 of them are made ahead; what is sent differs from them by its event_id only.

import { randomUUID } from 'node:crypto'
import { type Event, parseEvent } from '../server/ingest/event.ts'

export const eventBytes = 1536
const variants = 2000
const issues = 50

export interface Sample {
  /** Exactly `eventBytes` of JSON. */
  json: Buffer
  issue: number
  level: string
  environment: string
}

/** Where in every sample the 32 digits of its event_id begin. */
export const idOffset = Buffer.byteLength('{"event_id":"')

export const newId = (): string => randomUUID().replaceAll('-', '')

export function createSamples(now: number): Sample[] {
  return Array.from({ length: variants }, (_, n) => {
    const issue = (n * 7) % issues
    const level = issue % 10 === 0 ? 'warning' : 'error'
    const environment = n % 5 === 0 ? 'staging' : 'production'
    return { json: encode(payload(n, issue, level, environment, now)), issue, level, environment }
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

/** Filled up to the exact size: then every request has the same length, and a buffer fits them all. */
function encode(value: object): Buffer {
  const plain = Buffer.byteLength(JSON.stringify({ ...value, extra: { note: '' } }))
  if (plain > eventBytes) throw new Error(`a sample has ${plain} bytes`)
  return Buffer.from(JSON.stringify({ ...value, extra: { note: 'x'.repeat(eventBytes - plain) } }))
}
