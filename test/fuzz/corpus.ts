// What the mutations start from: envelopes and events of real SDKs, and the forms of everything else that this server reads.

import { readdirSync, readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

const folder = new URL('../fixtures/', import.meta.url)

/** Header, item header, payload; some with more items. */
export const envelopes: Buffer[] = readdirSync(folder)
  .filter((name) => /\.envelope(\.gz)?$/.test(name))
  .sort()
  .map((name) => {
    const bytes = readFileSync(new URL(name, folder))
    return name.endsWith('.gz') ? gunzipSync(bytes) : bytes
  })

/** The payload of each one's event; each is the first item. */
export const events: Buffer[] = envelopes.map((bytes) => {
  const first = bytes.indexOf('\n', bytes.indexOf('\n') + 1) + 1
  const end = bytes.indexOf('\n', first)
  return bytes.subarray(first, end === -1 ? bytes.length : end)
})

export const eventValues: unknown[] = [
  ...events.map((bytes) => JSON.parse(bytes.toString()) as unknown),
  { message: 'text' },
  {
    logentry: { message: '%s of {0} and %(name)s', params: ['a', 2, { b: null }] },
    tags: [['a', 'b']],
    level: 'fatal',
  },
  { message: 'x', fingerprint: ['{{ default }}', 'a'], user: { id: 1, email: 'a@b.c' }, timestamp: 1_767_225_600.5 },
  { threads: { values: [{ crashed: true, stacktrace: { frames: [{ function: 'f', filename: 'f.js' }] } }] } },
]

export const securityReports: unknown[] = [
  {
    'csp-report': {
      'document-uri': 'https://shop.example.com/cart',
      referrer: '',
      'violated-directive': "script-src 'self'",
      'effective-directive': 'script-src',
      'original-policy': "default-src 'self'",
      'blocked-uri': 'https://evil.example.com/x.js',
      'status-code': 200,
    },
  },
  [
    {
      type: 'csp-violation',
      age: 1,
      url: 'https://a/',
      user_agent: 'x',
      body: { effectiveDirective: 'img-src', blockedURL: 'inline' },
    },
    { type: 'deprecation', body: {} },
  ],
  { 'expect-ct-report': { hostname: 'a' } },
]

export const notificationValues: unknown[] = [
  {
    project_id: '1',
    action: 'events',
    unresolved: 3,
    version: 12,
    cursor: '751',
    events: [
      {
        id: '0bbce0e31ed54a6f93610e6bd6f1d4b3',
        issue_id: '7',
        level: 'error',
        environment: 'production',
        release: null,
        platform: 'node',
        title: 'Error: a',
        culprit: null,
        message: 'a',
        user: 'id:1',
        received_at: '2026-01-02T03:04:05.678901+00:00',
        timestamp: '2026-01-02T03:04:05.678Z',
      },
    ],
  },
  {
    project_id: '1',
    action: 'issues',
    unresolved: 3,
    version: 13,
    cursor: '752',
    issues: [
      {
        activity_id: '4',
        action: 'resolved',
        issue_id: '7',
        actor: 'role',
        issue: {
          short_id: 'APP-1',
          title: 'Error: a',
          culprit: null,
          level: 'error',
          platform: 'node',
          status: 'resolved',
          assigned_to: null,
          first_seen: '2026-01-02T03:04:05.678901+00:00',
          last_seen: '2026-01-02T03:04:05.678901+00:00',
          event_count: 3,
          user_count: 1,
          dropped_count: 0,
          status_changed_at: '2026-01-02T03:04:05.678901+00:00',
          archived_until: null,
          archived_until_event_count: null,
          archived_until_escalating: false,
        },
      },
    ],
  },
  { project_id: '1', action: 'bulk', unresolved: 0, version: 14, cursor: '753', changes: 5_000 },
  { project_id: '1', action: 'keys', public_key: '0123456789abcdef0123456789abcdef', revoked: true },
  { action: 'access' },
  { action: 'heartbeat', from: 'a', beat: 1, cursor: '754' },
]

export const clientMessages: unknown[] = [
  { type: 'subscribe', filters: { level: 'error', environment: ['production', 'staging'] }, ref: 1 },
  { type: 'subscribe', filters: { level: ['fatal', 'error'], environment: 'a/b=*' }, sample: false, ref: 'r' },
  { type: 'subscribe', filters: {}, since: '7300000000000000000.00000001-751' },
  { type: 'ping', ref: 2 },
  { type: 'ping' },
]

export const cursors = [
  '7300000000000000000.00000001-751',
  '1.0000000A-0',
  '18446744073709551615.FFFFFFFF-18446744073709551615',
]

export const credentials = [
  'Sentry sentry_key=0123456789abcdef0123456789abcdef, sentry_version=7, sentry_client=sentry.node/11',
  'Bearer 0123456789abcdef0123456789abcdef',
  `Basic ${Buffer.from('0123456789abcdef0123456789abcdef:secret').toString('base64')}`,
  'sentry_version=7&sentry_key=0123456789abcdef0123456789abcdef',
  'DSN http://0123456789abcdef0123456789abcdef@localhost/1',
]
