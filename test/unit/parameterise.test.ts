import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parameterised, placeholdersIn } from '../../server/ingest/grouping/parameterise.ts'

test('What varies in a message becomes a placeholder', () => {
  const cases: [text: string, expected: string][] = [
    ['user 42 not found', 'user <num> not found'],
    ['took 2.75 units, 1e10 or 5.1e-3', 'took <num> units, <num> or <num>'],
    ['HTTP 404', 'HTTP <num>'],
    ['order-1234 and item_56 of #7', 'order-<num> and item_<num> of #<num>'],
    ['id 123456789012345678901234567890', 'id <num>'],
    ['-5 of +3 at 91%', '-<num> of +<num> at <num>%'],
    ['10MB of 16 GiB, 12px', '<num>MB of <num> GiB, <num>px'],
    ['version 1.2.3', 'version <num>.<num>'],
    ['用户42不存在', '用户<num>不存在'],
    ['took 3000ms, 2.5s and 1h30m', 'took <dur>, <dur> and <dur>'],
    ['connect ECONNREFUSED 10.0.0.5:5432', 'connect ECONNREFUSED <ip>:<num>'],
    ['10.0.0.5/24, 300.1.1.1', '<ip>/<num>, <num>.<num>'],
    ['ip fe80::1ff:fe23:4567:890a down', 'ip <ip> down'],
    ['::1, fe80::1%eth0, ::ffff:10.0.0.1', '<ip>, <ip>, <ip>'],
    ['2001:0db8:85a3:0000:0000:8a2e:0370:7334', '<ip>'],
    ['00:1B:44:11:3A:B7 and 00-1b-44-11-3a-b7', '<mac> and <mac>'],
    ['GET https://api.example.com/v1/users/7?x=1 failed', 'GET <url> failed'],
    ['(see http://y.example/q). postgres://u:p@db/x', '(see <url>). <url>'],
    ['git+ssh://host/x chrome-extension://abcdef/y.js', '<url> <url>'],
    ['mail to alice.b+c@mail.example.com bounced', 'mail to <email> bounced'],
    ['lookup api.example.com:443 failed', 'lookup <host>:<num> failed'],
    ['could not connect to some-host:5432', 'could not connect to some-host:<num>'],
    ['no 23222692-852d-4c0c-a8ab-00002d1f78b6 here', 'no <uuid> here'],
    ['trace 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'trace <trace>'],
    ['trace 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1', 'trace <trace>'],
    ['at address 0xDEADbeef', 'at address <hex>'],
    ['bad revision 9f8e7d6 or 9F8E7D6', 'bad revision <hex> or <hex>'],
    ['sha 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12', 'sha <hex>'],
    ['charge ch_3Nx81kLm9, sk_live_51H8xYz9Ab3K', 'charge ch_<id>, sk_live_<id>'],
    ['token eyJhbGciOiJIUzI1NiJ9abcdef123456 rejected', 'token <id> rejected'],
    ['token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.SflKxwRJ_adQssw5c', 'token <id>'],
    [`invalid record name='alice' ok=true`, 'invalid record name=<str> ok=<bool>'],
    [`x="a b" y='' z=False w=trueish`, 'x=<str> y=<str> z=<bool> w=trueish'],
    ['  first \n\n second 2 \r\n third 3', 'first\nsecond <num>'],
  ]
  for (const [text, expected] of cases) assert.equal(parameterised(text), expected)
})

test('Dates and times are known in the forms that programs print', () => {
  const forms = [
    '2026-11-23',
    '2026-11-23T11:53:16.5Z',
    '2026-11-23 11:53:16,123',
    '2026-11-23T11:53:16+01:00',
    '2026/11/23 11:53',
    '20261123T115316Z',
    'Mon, 02 Jan 2006 15:04:05 GMT',
    'Monday, 02-Jan-06 15:04:05 MST',
    'Mon Jan  2 15:04:05 2006',
    'Mon Jan 02 15:04:05 CET 2006',
    'Mon Jan 02 2006 15:04:05 GMT+0100 (Central European Standard Time)',
    'Jan  2 15:04:05.000',
    'January 2, 2006',
    '02 Jan 2006 15:04',
    '02/Jan/2006:15:04:05 +0000',
    '01/02/2006',
    '1/2/2006, 3:04:05 PM',
    '23.11.2026 11:53',
    '15:04:05.999',
    '3:04PM',
  ]
  for (const form of forms) assert.equal(parameterised(`since ${form} broken`), 'since <date> broken', form)
})

test('Names of programs stay as they are', () => {
  for (const text of [
    "KeyError 'alice'",
    'System.IO failed in main.rs, H2 utf8, console.info',
    'SomeClass::someMethod() failed in std::vector, Abc::Def',
    'facade feed',
    'utf8_general_ci as_base64url v8',
    'C:\\app\\main.exe',
    'a != b, c == d, e => f',
    'march on, may be, second',
  ])
    assert.equal(parameterised(text), text)
})

// What the placeholders are made of, so that borders between them come up often.
const piece = fc.oneof(
  fc.constantFrom(
    ...['1', '42', '12345678', '3.5', '10.0.0.5', '::', ':', 'fe80', 'ab1', '9f8e7d6', 'a@b.co', 'https://x', '://'],
    ...[
      '2026-11-23',
      'T',
      '15:04:05',
      'Jan 2',
      'Mon, ',
      ' PM',
      'GMT',
      '00-1b-44',
      'eyJ',
      'ch_',
      '_',
      '.',
      '-',
      '+',
      '/',
    ],
    ...[
      "='",
      '="',
      "'",
      '"',
      '=true',
      '=',
      '<',
      '>',
      '<num>',
      ' ',
      '\n',
      '\r',
      '%',
      'ms',
      'MB',
      'x.com',
      'e',
      '\u0338',
      'é',
      '用',
      '😀',
    ],
  ),
  fc.string({ unit: 'binary', maxLength: 5 }),
)
const text = fc.oneof(
  fc.array(piece, { maxLength: 40 }).map((pieces) => pieces.join('')),
  fc.array(piece, { minLength: 200, maxLength: 900 }).map((pieces) => pieces.join('')),
  fc.string({ unit: 'binary', maxLength: 2000 }),
)

test('Parameterising any text twice changes nothing, and the result is bounded', () => {
  fc.assert(
    fc.property(text, (any) => {
      const once = parameterised(any)
      assert.equal(parameterised(once), once)
      assert.ok(once.length <= 1024)
    }),
    // The same texts every time: a new find is for who looks for one, with another seed. Those that were found stay.
    {
      numRuns: 3000,
      seed: 1,
      examples: ['\0::e15:04:05https://x1', 'fe80::11111', 'fe80::3.511', 'a@b.co.1111', '1.a://x', '5\u0338'].map(
        (one) => [one],
      ),
    },
  )
})

/** A text that counts how often it is looked at. */
class Counted extends String {
  looks = 0
  override charCodeAt(at: number): number {
    this.looks++
    return super.charCodeAt(at)
  }
  override indexOf(wanted: string, from?: number): number {
    const found = super.indexOf(wanted, from)
    this.looks += (found === -1 ? this.length : found) - (from ?? 0)
    return found
  }
}

test('However a text is made, reading it takes steps in proportion to its length', () => {
  const units = [
    ...[
      '1',
      'a',
      'a1',
      'A1b',
      'a@',
      'a.b@',
      '1@a.',
      'a://',
      '1://',
      "='",
      `="'`,
      '=',
      '1.',
      '1-',
      'a-',
      'a.',
      'a_',
      'x.com.',
    ],
    ...[
      '::',
      'a:',
      '1:',
      'f:f::',
      '00-',
      '00:',
      '2026-11-',
      'Jan 2 ',
      'Mon, ',
      'Mon, 02 Jan ',
      '15:04:',
      'eyJ',
      'eyJ-',
      '1-eyJ',
      '1.eyJa-',
    ],
    ...[
      '0x',
      'ch_',
      '9f8e7d6',
      '1h',
      '1e',
      '1e-',
      '10MB',
      '<num>',
      ' ',
      '1 ',
      'a1 ',
      '%',
      '+',
      '12345678-',
      '123456789-1234-',
    ],
  ]
  for (const unit of units) {
    for (const end of ['', '@', '@a.b1', '://', '.com_', 'z']) {
      const text = new Counted(unit.repeat(Math.ceil(1_000 / unit.length)) + end)
      placeholdersIn(text as unknown as string)
      assert.ok(text.looks < 50 * text.length, `${unit}…${end}: ${text.looks} looks at ${text.length} characters`)
    }
  }
})

test('Of a text of any length only its beginning is read', () => {
  const looksAt = (length: number) => {
    const text = new Counted(`${' '.repeat(length)}\n`.repeat(3))
    parameterised(text as unknown as string)
    return text.looks
  }
  assert.equal(looksAt(1_000_000), looksAt(10_000))
})
