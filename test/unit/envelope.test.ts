import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { AppError } from '../../server/errors.ts'
import { type Envelope, EnvelopeParser, type Keep, parseEnvelope } from '../../server/ingest/envelope.ts'
import { addPiece, joined } from '../../server/pieces.ts'

const parse = (text: string | Buffer) => parseEnvelope(Buffer.from(text))
const itemsOf = (text: string | Buffer) => parse(text).items.map((item) => [item.type, item.payload.toString()])
const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url))

test('an envelope is read as its specification says', () => {
  const cases: [text: string | Buffer, items: [string, string][]][] = [
    ['{}', []],
    ['{}\n', []],
    ['{}\n\n\r\n', []],
    ['{}\n{"type":"session"}\n{"a":1}', [['session', '{"a":1}']]],
    ['{}\n{"type":"session"}\n{"a":1}\n', [['session', '{"a":1}']]],
    ['{}\n{"type":"session","length":null}\n{"a":1}\n', [['session', '{"a":1}']]],
    ['{}\r\n{"type":"event"}\r\n{"a":1}\r\n', [['event', '{"a":1}\r']]],
    ['\uFEFF{}\n{"type":"event"}\n{}', [['event', '{}']]],
    [
      '{}\n\n{"type":"event"}\n{}\n\n\n{"type":"x"}\ny\n\n',
      [
        ['event', '{}'],
        ['x', 'y'],
      ],
    ],
    [
      '{}\n{"type":"attachment","length":0}\n\n{"type":"attachment","length":0}\n',
      [
        ['attachment', ''],
        ['attachment', ''],
      ],
    ],
    ['{}\n{"type":"attachment","length":0}', [['attachment', '']]],
    ['{}\n{"type":"attachment"}', [['attachment', '']]],
    [
      '{}\n{"type":"attachment","length":10}\n\uFEFFHello\r\n\n{"type":"event"}\n{}',
      [
        ['attachment', '\uFEFFHello\r\n'],
        ['event', '{}'],
      ],
    ],
    ['{}\n{"type":"x","length":7}\nab\n\ncd\n', [['x', 'ab\n\ncd\n']]],
  ]
  for (const [text, items] of cases) assert.deepEqual(itemsOf(text), items, JSON.stringify(String(text)))
})

test('what is no envelope is refused with the reason', () => {
  const cases: [text: string, reason: RegExp][] = [
    ['', /empty/],
    ['not json\n{"type":"event"}\n{}', /first line/],
    ['[]\n', /first line/],
    ['null', /first line/],
    [`{"a":"${'x'.repeat(17_000)}"}\n`, /16 KiB/],
    [`${'['.repeat(10_000)}\n`, /first line/],
    ['{}\n{"type":"x","length":5}\nabc', /item 1: the envelope ends/],
    ['{}\n{"type":"x","length":2}\nabc\n', /no line feed/],
    ['{}\n{"type":"x","length":-1}\n\n', /number of bytes/],
    ['{}\n{"type":"x","length":"3"}\nabc\n', /number of bytes/],
    ['{}\n{"type":"x","length":1e300}\nabc\n', /number of bytes/],
    ['{}\n{"type":"session"}\n{}\n{"no":"type"}\n{}', /item 2: its header has no "type"/],
    ['{}\n{"type":5}\n{}', /no "type"/],
    ['{}\nnot json\n{}', /item 1/],
    [`{}\n${'{"type":"x"}\n{}\n'.repeat(1001)}`, /at most 1000 items/],
  ]
  for (const [text, message] of cases) {
    assert.throws(
      () => parse(text),
      (error) => error instanceof AppError && error.code === 'bad_envelope' && message.test(error.message),
      text.slice(0, 60),
    )
  }
})

test('an event is kept when the envelope is malformed behind it', () => {
  const envelope = parse('{}\n{"type":"event"}\n{"message":"a"}\n{"type":"x","length":99}\nabc')
  assert.deepEqual(
    envelope.items.map((item) => item.type),
    ['event'],
  )
  assert.match(envelope.malformed ?? '', /item 2/)
})

test('bad known headers of an envelope read as absent, and ids lose their dashes', () => {
  assert.deepEqual(parse('{"event_id":5,"dsn":[],"sent_at":"soon","sdk":"x"}').header, {
    event_id: null,
    dsn: null,
    sent_at: null,
    sdk_name: null,
  })
  const { header } = parse(
    '{"event_id":"23222692-852D-4C0C-A8AB-00002D1F78B6","dsn":"http://k@h/1","sent_at":"2026-11-23T11:51:01.070Z","sdk":{"name":"a\\u0000b"}}',
  )
  assert.equal(header.event_id, '23222692852d4c0ca8ab00002d1f78b6')
  assert.equal(header.dsn, 'http://k@h/1')
  assert.equal(header.sent_at, Date.parse('2026-11-23T11:51:01.070Z'))
  assert.equal(header.sdk_name, 'ab')
})

test('a real envelope with attachments keeps their bytes', () => {
  const items = parse(fixture('node-v11.attachments.event+attachment.envelope')).items
  assert.equal(items[0]?.type, 'event')
  assert.ok(items.length > 2)
  for (const item of items.slice(1)) {
    assert.equal(item.type, 'attachment')
    assert.equal(item.payload.length, item.header.length)
  }
})

/** The same bytes in pieces: what came of them, or why not. */
function parsedInPieces(bytes: Buffer, cuts: readonly number[], keep: Keep = () => Number.POSITIVE_INFINITY) {
  try {
    const parser = new EnvelopeParser(keep)
    let at = 0
    for (const cut of [...new Set(cuts)].sort((a, b) => a - b)) {
      parser.write(bytes.subarray(at, cut))
      at = cut
    }
    parser.write(bytes.subarray(at))
    const envelope = parser.end()
    const kept = envelope.items.reduce((sum, item) => sum + item.payload.length, 0)
    if (envelope.malformed === null) assert.equal(parser.held, kept, 'what is held is what was kept')
    return plain(envelope)
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'bad_envelope') throw error
    return error.message
  }
}

function plain({ header, items, malformed }: Envelope) {
  return { header, malformed, items: items.map((item) => ({ ...item, payload: item.payload.toString('hex') })) }
}

const limited = (most: number): Keep => {
  let items = 0
  return (type) => (type === 'event' && items++ === 0 ? most : 0)
}

const anItem = fc.record({
  type: fc.constantFrom('event', 'attachment', 'session', '', 'ü', '__proto__'),
  payload: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  length: fc.boolean(),
})

/** An item without a length ends with its line, so its payload holds none. */
function printed(items: { type: string; payload: Buffer; length: boolean }[], newline: boolean): Buffer {
  const parts: (string | Buffer)[] = ['{"event_id":"', 'a'.repeat(32), '"}']
  for (const { type, payload, length } of items) {
    parts.push(`\n${JSON.stringify(length ? { type, length: payload.length } : { type })}\n`, payload)
  }
  if (newline) parts.push('\n')
  return Buffer.concat(parts.map((part) => Buffer.from(part)))
}

/** Almost an envelope: the pieces of one in any order, whole ones and others. */
const almost = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        ...[
          '{}',
          '{"type":"event"}',
          '{"type":"event","length":3}',
          '{"type":"a","length":0}',
          '{"type":"a"}',
          '{"length":1}',
        ],
        ...[
          '\n',
          '\n',
          '\n',
          '\r\n',
          '\n\n',
          ' ',
          'abc',
          '\ufeff',
          '{"type":"a","length":-1}',
          '{"type":"a","length":null}',
          '"',
        ],
      ),
      fc.string({ maxLength: 5 }),
    ),
    { maxLength: 14 },
  )
  .map((pieces) => Buffer.from(pieces.join('')))
const anything = fc.oneof(
  almost,
  almost.map((bytes) => Buffer.concat([Buffer.from('{}\n{"type":"event"}\n{}\n'), bytes])),
  fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
)
const runs = { numRuns: 2_000 }

test('what was printed is read again, whatever the payloads hold', () => {
  fc.assert(
    fc.property(fc.array(anItem, { maxLength: 5 }), fc.boolean(), (items, newline) => {
      const sent = items.map((item) => ({ ...item, length: item.length || item.payload.includes(0x0a) }))
      const envelope = parseEnvelope(printed(sent, newline))
      assert.equal(envelope.malformed, null)
      assert.equal(envelope.header.event_id, 'a'.repeat(32))
      assert.deepEqual(
        envelope.items.map(({ type, size, payload }) => ({ type, size, payload: payload.toString('hex') })),
        sent.map(({ type, payload }) => ({ type, size: payload.length, payload: payload.toString('hex') })),
      )
    }),
    runs,
  )
})

test('any split of the bytes gives the same items, or the same refusal', () => {
  fc.assert(
    fc.property(anything, fc.array(fc.nat(120), { maxLength: 12 }), fc.constantFrom(0, 2, 1000), (bytes, at, most) => {
      const cuts = at.filter((cut) => cut < bytes.length)
      assert.deepEqual(parsedInPieces(bytes, cuts), parsedInPieces(bytes, []))
      assert.deepEqual(parsedInPieces(bytes, cuts, limited(most)), parsedInPieces(bytes, [], limited(most)))
    }),
    runs,
  )
})

test('real envelopes are the same in two pieces cut anywhere, and byte by byte', () => {
  const bytes = fixture('node-v11.attachments.event+attachment.envelope')
  const whole = parsedInPieces(bytes, [])
  for (let cut = 1; cut < bytes.length; cut++) assert.deepEqual(parsedInPieces(bytes, [cut]), whole)
  assert.deepEqual(
    parsedInPieces(
      bytes,
      Array.from({ length: bytes.length }, (_, cut) => cut),
    ),
    whole,
  )
})

test('no bytes make anything but an envelope or a bad_envelope', () => {
  fc.assert(
    fc.property(anything, (bytes) => {
      const result = parsedInPieces(bytes, [])
      if (typeof result === 'string') assert.match(result, /^\S.{10,}\.$/)
      else assert.ok(result.malformed === null || result.items.some((item) => item.type === 'event'))
    }),
    runs,
  )
})

test('a line of more than 16 KiB is refused as soon as it is that long, blank or not', () => {
  for (const filler of ['x', ' ']) {
    const parser = new EnvelopeParser(() => 0)
    parser.write(Buffer.from('{}\n{"type":"event"}\n{}\n'))
    for (let n = 0; n < 17; n++) parser.write(Buffer.alloc(1024, filler))
    parser.write(Buffer.from('\n{"type":"session"}\n{}'))
    assert.match(parser.end().malformed ?? '', /item 2.*16 KiB/)
    assert.equal(parser.held, 0)
    const header = new EnvelopeParser(() => 0)
    assert.throws(
      () => header.write(Buffer.alloc(20 * 1024, filler)),
      (error) => error instanceof AppError && error.code === 'bad_envelope',
    )
  }
})

test('what is not kept is read past and never held', () => {
  const parser = new EnvelopeParser((type) => (type === 'event' ? 100 : 0))
  parser.write(Buffer.from('{}\n{"type":"attachment","length":5000000}\n'))
  for (let n = 0; n < 50; n++) {
    parser.write(Buffer.alloc(100_000, 'x'))
    assert.equal(parser.held, 0)
  }
  parser.write(Buffer.from(`\n{"type":"event"}\n${'x'.repeat(60)}`))
  assert.equal(parser.held, 60)
  parser.write(Buffer.alloc(41, 'x'))
  assert.equal(parser.held, 0)
  const { items } = parser.end()
  assert.deepEqual(
    items.map(({ type, size, payload }) => [type, size, payload.length]),
    [
      ['attachment', 5_000_000, 0],
      ['event', 101, 0],
    ],
  )
})

test('bytes that come one by one are held as a few pieces, in their order', () => {
  const pieces: Buffer[] = []
  for (let n = 0; n < 300_000; n++) addPiece(pieces, Buffer.from([n % 251]))
  assert.ok(pieces.length < 40, `${pieces.length} pieces`)
  const bytes = joined(pieces)
  assert.equal(bytes.length, 300_000)
  assert.ok(bytes.every((byte, at) => byte === at % 251))
})
