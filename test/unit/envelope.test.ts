import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { AppError } from '../../server/errors.ts'
import { parseEnvelope } from '../../server/ingest/envelope.ts'

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
