import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseEvent } from '../../server/ingest/event.ts'
import { parameterised } from '../../server/ingest/parameterise.ts'

const hash = (value: object) => parseEvent(Buffer.from(JSON.stringify(value)), { received_at: 0 }).hashes[0]

const frame = (name: string, more: object = {}) => ({
  function: name,
  filename: 'src/pay.js',
  lineno: 10,
  in_app: true,
  ...more,
})
const thrown = (frames: object[] | null, more: object = {}) => ({
  exception: {
    values: [{ type: 'PaymentError', value: 'order 1001', ...(frames && { stacktrace: { frames } }), ...more }],
  },
})
const stack = [frame('main'), frame('charge')]

test('events of one problem get one fingerprint', () => {
  const same: [why: string, a: object, b: object][] = [
    ['values do not count beside a stack', thrown(stack), thrown(stack, { value: 'order 2002' })],
    ['line numbers never count', thrown(stack), thrown(stack.map((f) => ({ ...f, lineno: 99 })))],
    ['library frames do not count', thrown(stack), thrown([...stack, frame('lib', { in_app: false })])],
    [
      'node_modules is never in the app',
      thrown(stack),
      thrown([...stack, frame('x', { filename: '/a/node_modules/x.js' })]),
    ],
    [
      'directories do not count',
      thrown([frame('a', { filename: '/r/1/x.js' })]),
      thrown([frame('a', { filename: '/r/2/X.js?v=3' })]),
    ],
    ['recursion counts once', thrown([frame('a'), frame('a')]), thrown([frame('a'), frame('a'), frame('a')])],
    ['V8 names one function in several ways', thrown([frame('async load')]), thrown([frame('load [as x]')])],
    ['null frames do not count', thrown(stack), thrown([null as never, ...stack])],
    ['without a stack ids in the value do not count', thrown(null), thrown(null, { value: 'order 2002' })],
    ['ids in messages do not count', { message: 'user 42 not found' }, { message: 'user 77 not found' }],
    [
      'templates come before texts',
      { logentry: { message: 'a %s', params: ['x'] } },
      { logentry: { message: 'a %s', params: ['y'] } },
    ],
    [
      'metadata does not count',
      { message: 'a' },
      { message: 'a', level: 'info', release: '2', tags: { a: 1 }, transaction: 't', user: { id: 1 } },
    ],
    ['a list and its values are one', { exception: [{ type: 'E' }] }, { exception: { values: [{ type: 'E' }] } }],
    ['the default alone is the default', thrown(stack), { ...thrown(stack), fingerprint: ['{{default}}'] }],
    ['an empty fingerprint is the default', thrown(stack), { ...thrown(stack), fingerprint: [] }],
    [
      'a custom fingerprint decides',
      { ...thrown(stack), fingerprint: ['db', 1] },
      { message: 'b', fingerprint: ['db', '1'] },
    ],
    [
      'half a default keeps the default',
      { message: 'a 1', fingerprint: ['{{ default }}', 'eu'] },
      { message: 'a 2', fingerprint: ['{{ default }}', 'eu'] },
    ],
    [
      'the stack that JS attaches to messages does not count',
      { message: 'a' },
      { message: 'a', exception: [{ value: 'a', mechanism: { synthetic: true }, stacktrace: { frames: stack } }] },
    ],
    [
      'synthetic types do not count',
      thrown(stack, { mechanism: { synthetic: true } }),
      thrown(stack, { type: 'X', mechanism: { synthetic: true } }),
    ],
  ]
  for (const [why, a, b] of same) assert.equal(hash(a), hash(b), why)
})

test('different problems get different fingerprints', () => {
  const different: [why: string, a: object, b: object][] = [
    ['types count', thrown(stack), thrown(stack, { type: 'Other' })],
    ['functions count', thrown(stack), thrown([frame('main'), frame('refund')])],
    ['callers count', thrown(stack), thrown([frame('retry'), frame('charge')])],
    ['modules count', thrown([frame('a', { module: 'x' })]), thrown([frame('a', { module: 'y' })])],
    [
      'library frames count when there are no others',
      thrown([frame('a', { in_app: false })]),
      thrown([frame('b', { in_app: false })]),
    ],
    [
      'causes count',
      { exception: [{ type: 'KeyError' }, { type: 'W' }] },
      { exception: [{ type: 'IndexError' }, { type: 'W' }] },
    ],
    ['messages count', { message: 'user 42' }, { message: 'order 42' }],
    ['the order of parts counts', { fingerprint: ['a', 'b'] }, { fingerprint: ['b', 'a'] }],
    ['the borders of parts count', { fingerprint: ['ab', 'c'] }, { fingerprint: ['a', 'bc'] }],
    [
      'what stands beside the default counts',
      { message: 'a', fingerprint: ['{{ default }}', 'eu'] },
      { message: 'a', fingerprint: ['{{ default }}', 'us'] },
    ],
    ['nothing is grouped by logger', { logger: 'a' }, { logger: 'b' }],
  ]
  for (const [why, a, b] of different) assert.notEqual(hash(a), hash(b), why)
})

test('what varies in a message becomes a placeholder', () => {
  const cases: [text: string, expected: string][] = [
    ['user 42 not found', 'user <num> not found'],
    ['took 2.75 units', 'took <num> units'],
    ['took 3000ms', 'took <dur>'],
    ['connect ECONNREFUSED 10.0.0.5:5432', 'connect ECONNREFUSED <ip>:<num>'],
    ['GET https://api.example.com/v1/users/7?x=1 failed', 'GET <url> failed'],
    ['mail to alice@example.com bounced', 'mail to <email> bounced'],
    ['no 23222692-852d-4c0c-a8ab-00002d1f78b6 here', 'no <uuid> here'],
    ['at 2026-11-23T11:53:16.5Z it broke', 'at <date> it broke'],
    ['at address 0xDEADbeef', 'at address <hex>'],
    ['bad revision 9f8e7d6', 'bad revision <hex>'],
    [`invalid record name='alice' ok=true`, 'invalid record name=<str> ok=<bool>'],
    ['order-1234 and item_56', 'order-<num> and item_<num>'],
    ["KeyError 'alice'", "KeyError 'alice'"],
    ['System.IO failed in main.rs, H2 utf8', 'System.IO failed in main.rs, H2 utf8'],
    ['  first \n\n second \n third 3', 'first\nsecond'],
  ]
  for (const [text, expected] of cases) assert.equal(parameterised(text), expected)
})

test('no message takes long to parameterise', () => {
  const start = process.hrtime.bigint()
  for (const text of ['1', 'a', 'a1', 'a@', 'a.b@', 'a://', "='", '1.', 'A1b', '\n', ' '])
    parameterised(text.repeat(500_000))
  assert.ok(Number(process.hrtime.bigint() - start) < 5e8)
})
