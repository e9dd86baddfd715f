import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseEvent } from '../../server/ingest/event.ts'

const hash = (value: object) => parseEvent(Buffer.from(JSON.stringify(value)), { received_at: 0 }).hashes[0]
const componentsOf = (value: object): unknown[] =>
  parseEvent(Buffer.from(JSON.stringify(value)), { received_at: 0 }).components.map((text) => JSON.parse(text))

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

test('variables of a fingerprint are resolved before it is hashed, and missing ones have a name', () => {
  const full = {
    ...thrown([
      frame('main'),
      frame('charge', { module: 'shop.pay', abs_path: '/srv/src/pay.js', package: '/usr/lib/libpay.so' }),
    ]),
    message: 'it broke',
    transaction: 'GET /pay',
    logger: 'shop',
    level: 'warning',
    tags: { region: 'eu' },
  }
  const cases: [variable: string, found: string, missing: string][] = [
    ['transaction', 'GET /pay', '<no-transaction>'],
    ['message', 'it broke', '<no-message>'],
    ['type', 'PaymentError', '<no-type>'],
    ['error.type', 'PaymentError', '<no-type>'],
    ['value', 'order 1001', '<no-value>'],
    ['error.value', 'order 1001', '<no-value>'],
    ['function', 'charge', '<no-function>'],
    ['stack.function', 'charge', '<no-function>'],
    ['path', '/srv/src/pay.js', '<no-abs-path>'],
    ['stack.abs_path', '/srv/src/pay.js', '<no-abs-path>'],
    ['stack.filename', 'src/pay.js', '<no-filename>'],
    ['module', 'shop.pay', '<no-module>'],
    ['stack.module', 'shop.pay', '<no-module>'],
    ['package', 'libpay.so', '<no-package>'],
    ['stack.package', 'libpay.so', '<no-package>'],
    ['level', 'warning', 'error'],
    ['logger', 'shop', '<no-logger>'],
    ['tags.region', 'eu', '<no-value-for-tag-region>'],
    ['tags.level', 'warning', 'error'],
    ['unheard', '<unrecognized-variable-unheard>', '<unrecognized-variable-unheard>'],
  ]
  for (const [variable, found, missing] of cases) {
    for (const part of [`{{ ${variable} }}`, `{{${variable}}}`, ` {{   ${variable} }}`]) {
      assert.deepEqual(componentsOf({ ...full, fingerprint: [part] }), [['fp', found]], part)
      assert.deepEqual(componentsOf({ fingerprint: ['x', part] }), [['fp', 'x', missing]], part)
    }
  }
  assert.deepEqual(componentsOf({ ...thrown(null), fingerprint: ['{{ message }}'] }), [['fp', 'order 1001']])
  for (const literal of ['a {{ type }}', '{{ type }', '{{}}', '{{ a b }}', '{{ {{type}} }}'])
    assert.deepEqual(componentsOf({ ...full, fingerprint: [literal] }), [['fp', literal]])
})

test('a fingerprint that holds the default holds all of its variants', () => {
  const event = thrown([frame('main'), frame('lib', { in_app: false })])
  const alone = componentsOf(event)
  assert.equal(alone.length, 2)
  assert.deepEqual(
    componentsOf({ ...event, fingerprint: ['{{ default }}', '{{ level }}', '{{default}}'] }),
    alone.map((variant) => ['mix', variant, 'error', variant]),
  )
})

test('of a fingerprint what is no text, number or truth value is left out', () => {
  assert.deepEqual(componentsOf({ message: 'a', fingerprint: ['x', 5, true, null, {}, [], ' '] }), [
    ['fp', 'x', '5', 'true'],
  ])
  for (const none of ['x', 5, {}, null, [], [null], [{}]])
    assert.deepEqual(componentsOf({ message: 'a', fingerprint: none }), [['msg', 'a']])
  const [long] = componentsOf({ message: 'a', fingerprint: Array(150).fill('x'.repeat(5000)) }) as string[][]
  assert.deepEqual([long!.length, long![1]!.length], [101, 1024])
})

test('a hash is the beginning of the sha256 of its components', () => {
  for (const event of [thrown(stack), { message: 'é 1' }, {}]) {
    const { hashes, components, grouping_algo } = parseEvent(Buffer.from(JSON.stringify(event)), { received_at: 0 })
    assert.equal(grouping_algo, 'g1')
    assert.deepEqual(
      hashes,
      components.map((text) => createHash('sha256').update(text).digest('hex').slice(0, 32)),
    )
  }
})

const scalar = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null))
const meta = fc.record(
  {
    level: fc.constantFrom('debug', 'info', 'fatal', 7),
    environment: scalar,
    release: scalar,
    dist: scalar,
    server_name: scalar,
    transaction: scalar,
    timestamp: scalar,
    event_id: scalar,
    logger: scalar,
    tags: fc.dictionary(fc.string({ maxLength: 5 }), scalar, { maxKeys: 3 }),
    user: fc.dictionary(fc.constantFrom('id', 'email', 'ip_address'), scalar),
    extra: fc.jsonValue(),
    breadcrumbs: fc.jsonValue(),
    modules: fc.jsonValue(),
    request: fc.jsonValue(),
  },
  { requiredKeys: [] },
)
const lines = fc.array(fc.integer({ min: 0, max: 1e6 }), { minLength: 3, maxLength: 3 })

test('a hash does not change with metadata, line numbers, the order of fields, or values beside a stack', () => {
  const event = (line: number[], value: string) =>
    thrown(
      ['main', 'charge', 'charge'].map((name, n) =>
        frame(name, { lineno: line[n], colno: line[2 - n], vars: { line } }),
      ),
      { value },
    )
  const expected = hash(event([1, 2, 3], 'x'))
  fc.assert(
    fc.property(meta, lines, fc.string(), (more, line, value) => {
      const changed = { ...more, ...event(line, value) }
      assert.equal(hash(changed), expected)
      assert.equal(hash(reversed(changed) as object), expected)
    }),
  )
})

/** The same with the keys of every object the other way round. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, inner]) => [key, reversed(inner)]),
  )
}

test('any event that is JSON has hashes of components of a bounded size', () => {
  const deep = fc.jsonValue({ maxDepth: 4 })
  const anything = fc.record(
    {
      platform: fc.constantFrom('node', 'java', 'native', 'php', 'ruby', 'csharp', 5),
      message: deep,
      logentry: deep,
      fingerprint: fc.oneof(
        deep,
        fc.array(fc.oneof(scalar, fc.constantFrom('{{ default }}', '{{ type }}', '{{ tags. }}'))),
      ),
      csp: fc.oneof(deep, fc.dictionary(fc.constantFrom('effective_directive', 'blocked_uri', 'document_uri'), scalar)),
      threads: deep,
      exception: fc.oneof(
        deep,
        fc.array(
          fc.record({
            type: scalar,
            value: deep,
            mechanism: fc.record({
              exception_id: fc.integer({ min: 0, max: 3 }),
              parent_id: fc.option(fc.integer({ min: 0, max: 3 })),
              is_exception_group: fc.boolean(),
              synthetic: fc.boolean(),
            }),
            stacktrace: fc.record({
              frames: fc.array(
                fc.oneof(
                  fc.record({
                    filename: scalar,
                    module: scalar,
                    function: fc.string({ unit: 'binary' }),
                    in_app: fc.boolean(),
                    context_line: scalar,
                    data: deep,
                  }),
                  deep,
                ),
              ),
            }),
          }),
          { maxLength: 5 },
        ),
      ),
    },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(anything, (event) => {
      const { hashes, components } = parseEvent(Buffer.from(JSON.stringify(event)), { received_at: 0 })
      assert.ok(hashes.length >= 1 && hashes.length <= 2 && hashes.length === components.length)
      for (const one of hashes) assert.match(one, /^[0-9a-f]{32}$/)
      for (const text of components) assert.ok(Array.isArray(JSON.parse(text)) && text.length < 100_000)
    }),
    { numRuns: 500 },
  )
})
