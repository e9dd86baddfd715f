// Pairs of events that a person would call one problem, or two. S: the second event, arriving later, belongs to the issue of
// the first. D: none of their hashes is the same.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseEvent } from '../../server/ingest/event.ts'

type Json = Record<string, unknown>

const hashes = (event: Json) => parseEvent(Buffer.from(JSON.stringify(event)), { received_at: 0 }).hashes

function isOneIssue(a: Json, b: Json): boolean {
  const known = hashes(a)
  return hashes(b).some((hash) => known.includes(hash))
}

const frame = (file: string, name: string, more: Json = {}): Json => ({
  filename: `${file}.py`,
  module: file.replaceAll('/', '.'),
  function: name,
  in_app: true,
  lineno: 10,
  ...more,
})
const library = (name: string) => frame('flask/app', name, { in_app: false })
const charge = (more: Json = {}) =>
  frame('app/pay', 'charge', { context_line: '    raise PaymentError(code)', ...more })
const stack = (caller: Json = frame('app/views', 'checkout'), crash: Json = charge()) => [library('run'), caller, crash]

const thrown = (type: string | null, value: string, frames: Json[] | null, more: Json = {}): Json => ({
  ...(type !== null && { type }),
  value,
  ...(frames !== null && { stacktrace: { frames } }),
  ...more,
})
const event = (values: Json[], more: Json = {}): Json => ({ platform: 'python', exception: { values }, ...more })
const payment = (frames: Json[] | null = stack(), more: Json = {}) =>
  event([thrown('PaymentError', 'card declined for order 1001', frames)], more)
const fingerprinted = (fingerprint: unknown, value = 'card declined for order 1001', more: Json = {}) =>
  event([thrown('PaymentError', value, null)], { fingerprint, ...more })
const said = (message: string, more: Json = {}): Json => ({ message, ...more })

const script = (name: string, more: Json = {}): Json => ({
  filename: '/srv/a.js',
  function: name,
  in_app: true,
  lineno: 10,
  ...more,
})
const js = (frames: Json[], more: Json = {}): Json => ({
  platform: 'node',
  exception: { values: [thrown('E', 'v', frames, more)] },
})
const minified = (build: string, names: [string, string], value: string): Json => ({
  platform: 'javascript',
  exception: {
    values: [
      thrown('TypeError', value, [
        { filename: 'https://shop.example.com/assets/vendor-99aa.js', function: names[0], lineno: 2, colno: 100 },
        { filename: `https://shop.example.com/assets/index-${build}.js`, function: names[1], lineno: 1, colno: 20345 },
      ]),
    ],
  },
})
const symbolicated = (build: string, lineno: number): Json =>
  js([
    {
      abs_path: `https://shop.example.com/assets/index-${build}.js`,
      filename: '../src/pricing.ts',
      function: 'basketTotal',
      lineno,
      colno: 3,
      context_line: 'total += item.price.amount;',
      data: { symbolicated: true, sourcemap: 'x' },
    },
  ])
const java = (module: string): Json => ({
  platform: 'java',
  exception: {
    values: [
      thrown('E', 'v', [
        { module, function: 'invoke', in_app: true },
        { module: 'com.acme.Shop', function: 'pay', in_app: true },
      ]),
    ],
  },
})
const child = (id: number, type: string, value: string): Json =>
  thrown(type, value, null, { mechanism: { type: 'chained', exception_id: id, parent_id: 0 } })
const group = (...children: Json[]): Json => ({
  platform: 'node',
  exception: {
    values: [
      ...children,
      thrown('AggregateError', 'w', null, {
        mechanism: { type: 'generic', exception_id: 0, is_exception_group: true },
      }),
    ],
  },
})
/** JS v11 attaches the stack of the call to messages. */
const captured = (message: string, wrapper = 'warn'): Json => ({
  platform: 'node',
  message,
  exception: {
    values: [thrown(null, message, [script(wrapper, { filename: '/srv/log.js' })], { mechanism: { synthetic: true } })],
  },
})
const signal = (type: string): Json => ({
  platform: 'native',
  exception: {
    values: [thrown(type, type, [{ function: 'crash', in_app: true }], { mechanism: { synthetic: true } })],
  },
})

const pairs: [number: number, is: 'S' | 'D', why: string, a: Json, b: Json][] = [
  [1, 'S', 'a value is ignored beside a stack', payment(), event([thrown('PaymentError', 'order 2002', stack())])],
  [2, 'S', 'line numbers never count', payment(), payment(stack().map((f) => ({ ...f, lineno: 17 })))],
  [3, 'D', 'types count', payment(), event([thrown('GatewayError', 'card declined for order 1001', stack())])],
  [4, 'D', 'functions count', payment(), payment(stack(undefined, charge({ function: 'refund' })))],
  [5, 'D', 'every caller in the app counts', payment(), payment(stack(frame('app/jobs', 'retry')))],
  [6, 'S', 'frames of libraries do not', payment(), payment([library('other'), ...stack().slice(1)])],
  [7, 'D', 'the failing line counts', payment(), payment(stack(undefined, charge({ context_line: 'raise Other()' })))],
  [
    8,
    'S',
    'how it is indented does not',
    payment(),
    payment(stack(undefined, charge({ context_line: '\t\traise  PaymentError(code)\n' }))),
  ],
  [
    9,
    'S',
    'a long line is data',
    payment(stack(undefined, charge({ context_line: `x = ${'a'.repeat(130)}` }))),
    payment(stack(undefined, charge({ context_line: `x = ${'b'.repeat(130)}` }))),
  ],
  [
    10,
    'S',
    'lines of callers do not count',
    payment(stack(frame('app/views', 'checkout', { context_line: 'pay(1)' }))),
    payment(stack(frame('app/views', 'checkout', { context_line: 'pay(2)' }))),
  ],
  [
    11,
    'S',
    'numbers in a value',
    event([thrown('E', 'user 42 not found', null)]),
    event([thrown('E', 'user 77 not found', null)]),
  ],
  [12, 'D', 'words in a value', event([thrown('E', 'user 42', null)]), event([thrown('E', 'order 42', null)])],
  [
    13,
    'S',
    'UUIDs',
    said('job 9ec79c33-ec99-42ab-8353-589fcb2e04dc failed'),
    said('job 123e4567-e89b-12d3-a456-426614174000 failed'),
  ],
  [14, 'S', 'addresses in memory', said('fault at 0x7ffe01'), said('fault at 0xDEADBEEF')],
  [15, 'S', 'IP addresses and ports', said('connect 10.0.0.5:5432'), said('connect 192.168.7.9:6432')],
  [16, 'S', 'e-mail addresses', said('mail to a@example.com'), said('mail to bob.b@shop.example.org')],
  [17, 'S', 'URLs', said('GET https://a.example.com/v1/7?x=1 failed'), said('GET https://a.example.com/v1/8 failed')],
  [18, 'S', 'dates', said('late since 2026-11-23T11:53:16Z'), said('late since 2025-01-02 03:04:05.678')],
  [19, 'S', 'whole numbers and fractions', said('took 3 units'), said('took 2.75 units')],
  [20, 'S', 'durations', said('after 3000ms'), said('after 12ms')],
  [21, 'S', 'what is right of =', said("bad name='alice' ok=true"), said("bad name='bob' ok=false")],
  [22, 'D', 'quotes elsewhere are kept', said("KeyError 'alice'"), said("KeyError 'bob'")],
  [23, 'S', 'revisions', said('bad revision 9f8e7d6'), said('bad revision 0123abc')],
  [24, 'S', 'prefixed ids', said('charge ch_3Nx81kLm9 failed'), said('charge ch_7Qa22zYt4 failed')],
  [25, 'S', 'two lines count', said('boom\nat step 1\nfoo'), said('boom\nat step 2\nbar')],
  [
    26,
    'S',
    'a template comes before its text',
    { logentry: { message: 'user %s has %d items', params: ['alice', 3] } },
    { logentry: { message: 'user %s has %d items', params: ['bob', 5] } },
  ],
  [27, 'S', 'levels', said('disk full', { level: 'warning' }), said('disk full', { level: 'error' })],
  [
    28,
    'S',
    'metadata',
    payment(stack(), { environment: 'a', release: '1', tags: { x: '1' }, user: { id: 1 }, server_name: 'w1' }),
    payment(stack(), { environment: 'b', release: '2', tags: { x: '2' }, user: { id: 2 }, server_name: 'w2' }),
  ],
  [29, 'S', 'transactions', payment(stack(), { transaction: 'GET /a' }), payment(stack(), { transaction: 'POST /b' })],
  [
    30,
    'S',
    'a fingerprint joins',
    payment(stack(), { fingerprint: ['db-down'] }),
    said('x', { fingerprint: ['db-down'] }),
  ],
  [31, 'D', 'a fingerprint parts', fingerprinted(['a']), fingerprinted(['b'])],
  [32, 'S', 'the default alone', payment(), payment(stack(), { fingerprint: ['{{default}}'] })],
  [33, 'S', 'no parts', payment(), payment(stack(), { fingerprint: [] })],
  [
    34,
    'S',
    'the default in part',
    fingerprinted(['{{ default }}', 'eu']),
    fingerprinted(['{{ default }}', 'eu'], 'card declined for order 2'),
  ],
  [35, 'D', 'what stands beside it', fingerprinted(['{{ default }}', 'eu']), fingerprinted(['{{ default }}', 'us'])],
  [36, 'D', 'that something stands beside it', fingerprinted(['{{ default }}', 'eu']), fingerprinted(undefined)],
  [37, 'D', 'the order of parts', fingerprinted(['a', 'b']), fingerprinted(['b', 'a'])],
  [38, 'D', 'the borders of parts', fingerprinted(['ab', 'c']), fingerprinted(['a', 'bc'])],
  [
    39,
    'D',
    'variables',
    payment(stack(), { transaction: 'A', fingerprint: ['{{ transaction }}'] }),
    payment(stack(), { transaction: 'B', fingerprint: ['{{ transaction }}'] }),
  ],
  [
    40,
    'D',
    'causes',
    event([thrown('KeyError', 'x', [frame('a', 'inner')]), thrown('OrderError', 'o', stack())]),
    event([thrown('IndexError', 'x', [frame('a', 'inner')]), thrown('OrderError', 'o', stack())]),
  ],
  [
    41,
    'S',
    'a list is its values',
    payment(),
    { platform: 'python', exception: [thrown('PaymentError', 'x', stack())] },
  ],
  [
    42,
    'S',
    'one object is a list of one',
    payment(),
    { platform: 'python', exception: thrown('PaymentError', 'x', stack()) },
  ],
  [
    43,
    'S',
    'two builds of a bundle',
    minified('4f2a9c1b', ['n', 'Object.t [as total]'], "reading 'total'"),
    minified('77aa0011', ['q', 'Object.q [as total]'], "reading 'total'"),
  ],
  [
    44,
    'D',
    'two messages from a bundle',
    minified('4f2a9c1b', ['n', 't'], "reading 'total'"),
    minified('4f2a9c1b', ['n', 't'], "reading 'amount'"),
  ],
  [45, 'S', 'two builds with source maps', symbolicated('4f2a9c1b', 7), symbolicated('ffff0000', 9)],
  [46, 'S', 'names as V8 writes them', js([script('async Foo.bar')]), js([script('bar')])],
  [
    47,
    'S',
    'frames of the engine',
    js([script('f')]),
    js([script('f'), script('forEach', { filename: '[native code]' })]),
  ],
  [
    48,
    'S',
    'how deep a recursion went',
    js([script('main'), script('walk'), script('walk')]),
    js([script('main'), script('walk'), script('walk', { lineno: 12 }), script('walk')]),
  ],
  [
    49,
    'S',
    'where it was deployed',
    js([script('f', { filename: '/srv/releases/20260101/a.js' })]),
    js([script('f', { filename: '/srv/releases/20260202/a.js' })]),
  ],
  [
    50,
    'S',
    'what the JVM generates',
    java('sun.reflect.GeneratedMethodAccessor12'),
    java('sun.reflect.GeneratedMethodAccessor987'),
  ],
  [51, 'D', 'libraries where there is nothing else', payment([library('x')]), payment([library('y')])],
  [52, 'S', 'messages with and without a stack', said('A failed', { platform: 'node' }), captured('A failed')],
  [53, 'D', 'two messages through one wrapper', captured('A failed'), captured('B failed')],
  [
    54,
    'S',
    'a group of equal errors',
    group(child(1, 'TypeError', 'a')),
    group(child(2, 'TypeError', 'a'), child(1, 'TypeError', 'a')),
  ],
  [
    55,
    'D',
    'a group of different errors',
    group(child(1, 'TypeError', 'a')),
    group(child(2, 'RangeError', 'b'), child(1, 'TypeError', 'a')),
  ],
  [56, 'S', 'in_app is the default', js([script('f', { in_app: undefined })]), js([script('f')])],
  [
    57,
    'S',
    'node_modules is a library whatever the bundler says',
    js([script('f'), script('p', { filename: '/srv/node_modules/x/index.js' })]),
    js([script('f'), script('q', { filename: '/srv/node_modules/y/index.js' })]),
  ],
  [58, 'S', 'synthetic types', signal('SIGSEGV'), signal('EXC_BAD_ACCESS')],
]

test('Of 58 pairs of events each is one problem or two, as a person would say', () => {
  assert.deepEqual(
    pairs.map(([number]) => number),
    Array.from({ length: 58 }, (_, index) => index + 1),
  )
  for (const [number, is, why, a, b] of pairs) {
    assert.equal(isOneIssue(a, b) ? 'S' : 'D', is, `${number}: ${why}`)
    assert.equal(isOneIssue(b, a) ? 'S' : 'D', is, `${number}, the other way round: ${why}`)
  }
})

test('An SDK that changes its mind about what is in the app finds the old issue', () => {
  const before = payment()
  const after = payment(stack().map((one) => ({ ...one, in_app: true })))
  assert.notEqual(hashes(before)[0], hashes(after)[0])
  assert.ok(isOneIssue(before, after))
  assert.ok(isOneIssue(after, before))
})

test('Events have a second hash only where the frames outside the app make a difference', () => {
  assert.equal(hashes(payment()).length, 2)
  assert.equal(hashes(payment([frame('a', 'f')])).length, 1)
  assert.equal(hashes(payment([library('f')])).length, 1)
  assert.equal(hashes(payment(stack(), { fingerprint: ['x'] })).length, 1)
  assert.equal(hashes(payment(stack(), { fingerprint: ['x', '{{ default }}'] })).length, 2)
  assert.equal(hashes(said('text')).length, 1)
})
