import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { AppError, type ErrorCode } from '../../server/errors.ts'
import { parseEnvelope } from '../../server/ingest/envelope.ts'
import { type EventContext, parseEvent } from '../../server/ingest/event.ts'
import { elementsFrom, sentIdFrom } from '../../server/ingest/json.ts'

const received_at = Date.parse('2026-11-23T12:00:00.000Z')
const minute = 60_000
const day = 24 * 60 * minute

const parse = (value: unknown, context: Partial<EventContext> = {}) =>
  parseEvent(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)), { received_at, ...context })
const tagsOf = (value: unknown) => Object.fromEntries(parse(value).tags)

function fixture(name: string) {
  const { header, items } = parseEnvelope(readFileSync(new URL(`../fixtures/${name}.envelope`, import.meta.url)))
  return parseEvent(items[0]!.payload, { received_at, event_id: header.event_id, sent_at: header.sent_at })
}

function refused(run: () => unknown, code: ErrorCode) {
  assert.throws(run, (error) => error instanceof AppError && error.code === code)
}

test('events of real SDKs get the title and culprit that people expect', () => {
  const expected: [name: string, title: string, culprit: string | null][] = [
    ['node-v11.exception-nested-cause.event', 'PaymentError: checkout failed for order 1234', 'checkout(scen)'],
    ['node-v11.http-request.event', 'Error: handler failed', 'POST /orders/55'],
    ['node-v11.message-parameterized.event', 'user alice has 3 failed logins', null],
    ['node-v11.exception-string.event', 'just a string was thrown', null],
  ]
  for (const [name, title, culprit] of expected) {
    const event = fixture(name)
    assert.deepEqual([event.title, event.culprit], [title, culprit], name)
    assert.match(event.id, /^[0-9a-f]{32}$/)
    assert.equal(event.environment, 'staging')
    assert.equal(event.release, 'shop-api@1.4.2')
    assert.equal(event.platform, 'node')
  }
})

test('the least that is accepted is a message', () => {
  const event = parse('{"message":"text"}')
  assert.deepEqual(
    { ...event, id: '', hashes: [], payload: event.payload.toString() },
    {
      id: '',
      received_at,
      timestamp: received_at,
      level: 'error',
      environment: null,
      release: null,
      platform: 'other',
      title: 'text',
      culprit: null,
      message: 'text',
      transaction: null,
      server_name: null,
      user: null,
      hashes: [],
      components: ['["msg","text"]'],
      grouping_algo: 'g1',
      tags: [['level', 'error']],
      payload: '{"message":"text"}',
    },
  )
  assert.match(event.id, /^[0-9a-f]{32}$/)
  assert.match(event.hashes[0]!, /^[0-9a-f]{32}$/)
})

test('an event that says nothing is stored for Sentry clients and refused at the doors of Mesher', () => {
  for (const empty of [
    {},
    { level: 'error' },
    { message: {} },
    { message: ' ' },
    { exception: { values: [null, {}] } },
  ]) {
    assert.equal(parse(empty).title, '<unlabeled event>')
    refused(() => parse(empty, { must_say_something: true }), 'unprocessable')
  }
  for (const some of [{ message: 5 }, { logentry: { formatted: 'x' } }, { exception: [{ type: 'E' }] }]) {
    parse(some, { must_say_something: true })
  }
})

test('what is not a JSON object of at most 1 MiB and 100 levels is refused', () => {
  for (const bad of [
    '',
    ' ',
    'text',
    '{',
    '{"a":1}}',
    '[]',
    '[{"message":"a"}]',
    'null',
    '5',
    '"text"',
    '{"a":"\0"}',
    '{"a":"\n"}',
  ]) {
    refused(() => parse(bad), 'bad_request')
  }
  const nested = (levels: number) => `{"message":"a","extra":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`
  parse(nested(100))
  refused(() => parse(nested(101)), 'bad_request')
  refused(() => parse(nested(10_000)), 'bad_request')
  refused(() => parse(`{"a":`.repeat(10_000)), 'bad_request')
  parse({ message: `${'['.repeat(1000)}"\\` })
  refused(() => parse({ message: 'x'.repeat(1024 * 1024) }), 'too_large')
})

test('a byte order mark, CRLF and the order of an array do not matter', () => {
  assert.equal(parse('\uFEFF{"message":"a"}').payload.toString(), '{"message":"a"}')
  assert.equal(parse('{\r\n"message":"a"\r\n}\r').title, 'a')
})

test('clean bytes are stored as they came', () => {
  const bytes = Buffer.from('{ "message":"Grüße \\ud83d\\ude00 \\\\u0000 😀", "big": 12345678901234567890, "x": 1.0 }')
  assert.deepEqual(parseEvent(bytes, { received_at }).payload, bytes)
})

test('NUL and lone surrogates are taken out wherever they are, and nothing else is', () => {
  const event = parse(
    '{"message":"a\\u0000b\\ud83dc","tags":{"k\\u0000":"v\\uDE00"},"server_name":"s\\u0000","list":[{"__proto__":"\\u0000x"}],"e":"\\ud83d\\ude00"}',
  )
  assert.equal(event.title, 'ab\ufffdc')
  assert.equal(event.server_name, 's')
  assert.ok(event.tags.some(([key, value]) => key === 'k' && value === 'v\ufffd'))
  const text = event.payload.toString()
  assert.doesNotMatch(text, /\\u0000|\\ud|\0/i)
  assert.ok(text.includes('"e":"😀"'))
  assert.ok(text.includes('"__proto__":"x"'))
})

test('raw surrogates and broken UTF-8 become replacement characters', () => {
  const bytes = Buffer.concat([Buffer.from('{"message":"a'), Buffer.from([0xed, 0xa0, 0x80, 0xff]), Buffer.from('b"}')])
  const event = parseEvent(bytes, { received_at })
  assert.match(event.title, /^a\ufffd+b$/)
  assert.ok(event.payload.equals(Buffer.from(event.payload.toString())))
})

test('a known field of the wrong type is dropped, and never the event', () => {
  const fields = [
    'event_id timestamp level platform logger logentry message exception threads stacktrace transaction culprit server_name',
    'release dist environment tags extra contexts user request breadcrumbs sdk modules fingerprint debug_meta errors type',
    'sentry.interfaces.Exception sentry.interfaces.Message sentry.interfaces.User sentry.interfaces.Http __proto__ constructor',
  ].flatMap((line) => line.split(' '))
  const wrong = [
    null,
    true,
    0,
    -1,
    1e308,
    '',
    'text',
    [],
    {},
    [[]],
    [null],
    [{}],
    [[1, 2, 3]],
    { values: 5 },
    { values: [5, null, []] },
    { name: {} },
    [{ type: {}, value: [], stacktrace: { frames: [null, 5, { function: {}, filename: [] }] }, mechanism: [] }],
    { id: {} },
    { url: {} },
    { runtime: 5, os: null, browser: { name: [] }, device: 'x' },
    { message: {}, params: 5 },
    { message: '%s %d', params: [] },
  ]
  for (const field of fields) {
    for (const value of wrong) {
      const text = `{"message":"kept",${JSON.stringify(field)}:${JSON.stringify(value)}}`
      const event = parse(text)
      assert.match(event.id, /^[0-9a-f]{32}$/, text)
      assert.ok(event.title.length > 0, text)
      for (const name of ['level', 'platform', 'title', 'grouping_algo'] as const)
        assert.equal(typeof event[name], 'string', text)
      for (const name of [
        'environment',
        'release',
        'culprit',
        'message',
        'transaction',
        'server_name',
        'user',
      ] as const) {
        assert.ok(event[name] === null || typeof event[name] === 'string', text)
      }
      for (const [key, tag] of event.tags) assert.ok(typeof key === 'string' && typeof tag === 'string', text)
      assert.ok(Math.abs(event.timestamp - received_at) <= 30 * day, text)
    }
  }
})

test('ids are 32 lower-case hex however they were written, and the id of the envelope wins', () => {
  const id = '23222692852d4c0ca8ab00002d1f78b6'
  for (const sent of [id, id.toUpperCase(), '23222692-852d-4c0c-a8ab-00002d1f78b6'])
    assert.equal(parse({ event_id: sent }).id, id)
  assert.equal(parse({ event_id: 'a'.repeat(32) }, { event_id: id }).id, id)
  for (const sent of ['abc', `${id}0`, 5, null]) assert.notEqual(parse({ event_id: sent }).id, sent)
})

test('levels have aliases, and an unknown one is an error', () => {
  const cases: [sent: unknown, level: string][] = [
    ['fatal', 'fatal'],
    ['critical', 'fatal'],
    ['WARN', 'warning'],
    ['log', 'info'],
    ['notice', 'info'],
    ['trace', 'debug'],
    [10, 'debug'],
    [30, 'warning'],
    [50, 'fatal'],
    ['nonsense', 'error'],
    [{}, 'error'],
    [undefined, 'error'],
  ]
  for (const [sent, level] of cases) assert.equal(parse({ level: sent }).level, level, String(sent))
})

test('times are read in every form that SDKs send, to the microsecond', () => {
  const at = Date.parse('2026-11-23T11:53:16Z')
  const cases: [sent: unknown, time: number][] = [
    ['2026-11-23T11:53:16Z', at],
    ['2026-11-23T11:53:16', at],
    ['2026-11-23 11:53:16.25', at + 250],
    ['2026-11-23T13:53:16+02:00', at],
    ['2026-11-23T13:53:16+0200', at],
    ['2026-11-23T11:53:16.123456789Z', at + 123.456],
    [at / 1000, at],
    [at / 1000 + 0.123456, at + 123.456],
    [String(at / 1000), at],
    ['2026-13-45T99:00:00Z', received_at],
    ['yesterday', received_at],
    [-5, received_at],
    [1e300, received_at],
  ]
  for (const [sent, time] of cases)
    assert.ok(Math.abs(parse({ timestamp: sent }).timestamp - time) < 0.001, String(sent))
})

test('a wrong clock is corrected by sent_at, and times out of reach become the time of arrival', () => {
  const time = (ms: number, sent_at: number | null = null) => parse({ timestamp: ms / 1000 }, { sent_at }).timestamp
  assert.equal(time(received_at - 10 * minute, received_at - 2 * minute), received_at - 10 * minute)
  assert.equal(time(received_at - 70 * minute, received_at - 60 * minute), received_at - 10 * minute)
  assert.equal(time(received_at + 170 * minute, received_at + 180 * minute), received_at - 10 * minute)
  assert.equal(time(received_at + 2 * minute), received_at)
  assert.equal(time(received_at - 31 * day), received_at)
  assert.equal(time(received_at - 29 * day), received_at - 29 * day)
})

test('long texts are cut without breaking a character', () => {
  const event = parse({
    message: `x${'😀'.repeat(10_000)}`,
    transaction: '😀'.repeat(1000),
    server_name: 'x'.repeat(5000),
  })
  assert.equal(event.title.length, 255)
  assert.equal(event.message?.length, 1023)
  assert.equal(event.transaction?.length, 200)
  assert.equal(event.server_name?.length, 256)
  for (const text of [event.title, event.message!, event.culprit!]) assert.equal(Buffer.from(text).toString(), text)
})

test('messages are formatted from their template, and stay a template when a parameter is missing', () => {
  const title = (logentry: unknown) => parse({ logentry }).title
  assert.equal(title({ message: 'user %s has %d items, 100%%', params: ['alice', 3] }), 'user alice has 3 items, 100%')
  assert.equal(title({ message: '%(who)s left', params: { who: 'bob' } }), 'bob left')
  assert.equal(title({ message: '{} and {1} and {}', params: ['a', 'b'] }), 'a and b and b')
  assert.equal(title({ message: '{who} left', params: { who: 'bob' } }), 'bob left')
  assert.equal(title({ message: 'user %s', params: [] }), 'user %s')
  assert.equal(title({ message: '%(constructor)s', params: {} }), '%(constructor)s')
  assert.equal(title({ message: 'a %s', formatted: 'a b', params: ['c'] }), 'a b')
  assert.equal(title({ message: 'only {', params: ['c'] }), 'only {')
  assert.equal(title({ message: '%2$s %1$s', params: ['a', 'b'] }), 'b a')
  assert.equal(
    title({ message: '%-5d of %.2f%% at %x, %r', params: [3.7, 12.345, 255, { a: 1 }] }),
    '3 of 12.35% at ff, {"a":1}',
  )
  assert.equal(title({ message: '100% done by %s', params: ['bob'] }), '100% done by bob')
  assert.equal(title({ message: '{price:.2f} for {who!r}', params: { price: 5, who: 'bob' } }), '5 for bob')
  assert.equal(title({ message: 'got {"a": 1} and {}', params: ['b'] }), 'got {"a": 1} and b')
})

test('environments and releases that Sentry calls invalid read as absent', () => {
  for (const sent of ['none', 'a/b', 'a\nb', '  ', 'x'.repeat(65)])
    assert.equal(parse({ environment: sent }).environment, null)
  assert.equal(parse({ environment: ' production ' }).environment, 'production')
  assert.equal(parse({ tags: { environment: 'staging' } }).environment, 'staging')
  for (const sent of ['.', '..', 'a/b', 'a\\b', 'x'.repeat(251), {}])
    assert.equal(parse({ release: sent }).release, null)
  assert.equal(parse({ release: 17 }).release, '17')
})

test('tags are derived, deduplicated, bounded and text', () => {
  const tags = tagsOf({
    environment: 'production',
    release: 'shop@1',
    dist: '7',
    server_name: 'web-1',
    transaction: 'POST /pay',
    logger: 'pay',
    request: { url: 'https://shop.example.com/pay?token=secret#x' },
    contexts: {
      runtime: { name: 'node', version: '20.1' },
      os: { name: 'Linux' },
      device: { family: 'Mac', model: 'M2' },
    },
    sdk: { name: 'sentry.javascript.node' },
    user: { id: 5 },
    exception: { values: [{ type: 'E', mechanism: { type: 'onerror', handled: false } }] },
    tags: [
      ['region', 'eu'],
      ['region', 'us'],
      ['release', 'other'],
      ['level', 'debug'],
      ['flag', true],
      ['n', 3],
      ['none', null],
      ['e', ''],
      5,
    ],
  })
  assert.deepEqual(tags, {
    level: 'error',
    environment: 'production',
    release: 'shop@1',
    dist: '7',
    server_name: 'web-1',
    transaction: 'POST /pay',
    logger: 'pay',
    handled: 'no',
    mechanism: 'onerror',
    url: 'https://shop.example.com/pay',
    'sdk.name': 'sentry.javascript.node',
    runtime: 'node 20.1',
    'runtime.name': 'node',
    os: 'Linux',
    'os.name': 'Linux',
    device: 'M2',
    'device.family': 'Mac',
    user: 'id:5',
    region: 'eu',
    flag: 'true',
    n: '3',
  })
  const many = parse({
    tags: Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`k${i}`, 'v'.repeat(300)])),
  }).tags
  assert.equal(many.length, 50)
  assert.equal(many.at(-1)?.[1].length, 200)
})

test('users are known by id, else name, else email, else address', () => {
  const user = (sent: unknown) => parse({ user: sent }).user
  assert.equal(user({ id: 42, email: 'a@b.c' }), 'id:42')
  assert.equal(user({ id: '', username: 'alice', email: 'a@b.c' }), 'username:alice')
  assert.equal(user({ email: 'a@b.c', ip_address: '::1' }), 'email:a@b.c')
  assert.equal(user({ ip_address: '::1' }), 'ip:::1')
  assert.equal(user({ ip_address: '{{auto}}' }), null)
})

test('keys named __proto__ harm nobody', () => {
  const event = parse('{"message":"a","__proto__":{"level":"fatal","title":"x"},"tags":{"__proto__":"y"}}')
  assert.equal(event.level, 'error')
  assert.deepEqual(event.tags, [
    ['level', 'error'],
    ['__proto__', 'y'],
  ])
  assert.equal(({} as Record<string, unknown>).level, undefined)
})

test('of huge lists of everything a bounded part is read', () => {
  const exception = {
    type: 'E',
    stacktrace: { frames: Array.from({ length: 5000 }, (_, i) => ({ function: `f${i}` })) },
  }
  const huge = [
    { exception: Array(4).fill(exception) },
    { exception: Array(50_000).fill({ type: 'E' }) },
    { tags: Array(50_000).fill(['a', 'b']) },
    { threads: Array(50_000).fill({ id: 1 }) },
    { fingerprint: Array(100_000).fill('a') },
    { message: '%s'.repeat(100_000), logentry: null },
    { logentry: { message: '%s'.repeat(4000), params: Array(4000).fill('x'.repeat(100)) } },
    { breadcrumbs: Array(200_000).fill(null) },
  ]
  for (const value of huge) {
    const event = parse(value)
    assert.ok(event.tags.length <= 50)
    assert.ok((event.message ?? '').length <= 1024)
    for (const text of event.components) assert.ok(text.length < 5_000)
  }
})

test('an array is cut into its elements, and a bad one spoils no other', () => {
  const texts = (text: string) => elementsFrom(Buffer.from(text), 1000).map(String)
  assert.deepEqual(texts(' [ ] '), [])
  assert.deepEqual(texts('\uFEFF[{"a":"],\\"["}, 5 ,\r\n[1,[2]],{bad},"x,y",]'), [
    '{"a":"],\\"["}',
    '5',
    '[1,[2]]',
    '{bad}',
    '"x,y"',
    '',
  ])
  for (const bad of ['', '{}', '[', '[1', '[1]x', '["a]', '[{]', '[1}', '1,2']) refused(() => texts(bad), 'bad_request')
  refused(() => texts(`[${'1,'.repeat(1000)}1]`), 'unprocessable')
  assert.equal(texts(`[${'1,'.repeat(999)}1]`).length, 1000)
  assert.equal(texts(`[${'['.repeat(100_000)}${']'.repeat(100_000)}]`).length, 1)
})

test('the id of a refused event is told as it was sent', () => {
  const id = (text: string) => sentIdFrom(Buffer.from(text))
  assert.equal(id('{"event_id":"ABC-1"}'), 'ABC-1')
  for (const none of ['{}', 'null', '{"event_id":5}', 'nonsense', `{"event_id":"${'a'.repeat(65)}"}`])
    assert.equal(id(none), null)
})
