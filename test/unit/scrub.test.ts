import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createScrubber, type ScrubSettings, standardSettings } from '../../server/ingest/scrub.ts'
import { createNames } from '../../server/ingest/scrub-names.ts'
import { scrubText } from '../../server/ingest/scrub-text.ts'

const names = createNames(standardSettings)
const clean = (text: string, kind: 'text' | 'message' | 'source' = 'text') =>
  scrubText(text, { names, secrets: true, ips: false }, kind)

function scrubbed<T extends object>(event: T, settings: Partial<ScrubSettings> = {}): T {
  const copy = structuredClone(event)
  createScrubber({ ...standardSettings, ...settings }).scrub(copy as Record<string, unknown>)
  return copy
}

/** Each of these as a value of `extra`. */
const extra = <T>(value: T, settings: Partial<ScrubSettings> = {}) =>
  scrubbed({ extra: { value } }, settings).extra.value

test('names that tell of a secret hide their value, and names that only look so do not', () => {
  const hidden =
    'password Password user_password passwd passphrase secret client_secret api_key api-key apiKey apikey auth Authorization ' +
    'credentials mysql_pwd privatekey private_key private-key token accessToken refresh_token csrf_token x-auth-token otp ' +
    'two_factor two-factor pin cvv ssn X-Api-Key jwt HTTP_AUTHORIZATION user[password] card_number'
  const plain =
    'author authors :authority co_author username email id name PWD OLDPWD path spin passenger compass key keyboard primary_key ' +
    'foreignKey session_id trace_id span_id optional hotpot'
  assert.deepEqual(
    hidden.split(' ').filter((name) => names.rule(name) !== 'hidden'),
    [],
  )
  assert.deepEqual(
    plain.split(' ').filter((name) => names.rule(name) !== 'plain'),
    [],
  )
})

test('what a name hides is hidden whole, whatever it is, except what says nothing', () => {
  assert.deepEqual(
    extra({
      password: 'x',
      secret: 5,
      auth: { user: 'a' },
      tokens: ['a', 'b'],
      api_key: '',
      token: null,
      has_secret: true,
    }),
    {
      password: '[Filtered]',
      secret: '[Filtered]',
      auth: '[Filtered]',
      tokens: '[Filtered]',
      api_key: '',
      token: null,
      has_secret: true,
    },
  )
  assert.deepEqual(extra({ max_tokens: 4096, token: 4096, token_count: 3 }), {
    max_tokens: 4096,
    token: '[Filtered]',
    token_count: 3,
  })
})

test('names are found in every form in which pairs are sent', () => {
  assert.deepEqual(
    extra([
      ['Authorization', 'abc'],
      ['Host', 'x'],
    ]),
    [
      ['Authorization', '[Filtered]'],
      ['Host', 'x'],
    ],
  )
  assert.deepEqual(
    extra([
      { name: 'X-Api-Key', value: 'abc' },
      { key: 'plain', value: 'abc' },
    ]),
    [
      { name: 'X-Api-Key', value: '[Filtered]' },
      { key: 'plain', value: 'abc' },
    ],
  )
  assert.deepEqual(extra(['manage.py', '--password', 'abc', '--port', '80', '--token=abc', '-v']), [
    'manage.py',
    '--password',
    '[Filtered]',
    '--port',
    '80',
    '--token=[Filtered]',
    '-v',
  ])
  const request = scrubbed({
    request: {
      headers: {
        Authorization: ['Basic abc'],
        Cookie: ['a=1; PHPSESSID=abc; theme=dark'],
        Host: ['x'],
        'X-Csrf-Token': 'a',
      },
      query_string: [
        ['q', 'shoes'],
        ['api_key', 'abc'],
      ],
      cookies: { theme: 'dark', sessionid: 'abc', 'connect.sid': 'abc', _csrf: 'abc' },
      env: { HTTP_COOKIE: 'sid=abc; a=b', HTTP_AUTHORIZATION: 'abc', REMOTE_ADDR: '203.0.113.9' },
      data: { user: { name: 'a', password: 'abc' } },
    },
  }).request
  assert.deepEqual(request, {
    headers: {
      Authorization: '[Filtered]',
      Cookie: ['a=1; PHPSESSID=[Filtered]; theme=dark'],
      Host: ['x'],
      'X-Csrf-Token': '[Filtered]',
    },
    query_string: [
      ['q', 'shoes'],
      ['api_key', '[Filtered]'],
    ],
    cookies: { theme: 'dark', sessionid: '[Filtered]', 'connect.sid': '[Filtered]', _csrf: '[Filtered]' },
    env: { HTTP_COOKIE: 'sid=[Filtered]; a=b', HTTP_AUTHORIZATION: '[Filtered]', REMOTE_ADDR: '203.0.113.9' },
    data: { user: { name: 'a', password: '[Filtered]' } },
  })
  const raw = scrubbed({
    request: {
      headers: 'Host: x\r\nAuthorization: abc\r\nCookie: a=b; sid=abc',
      cookies: 'a=b; session=abc; theme=dark',
    },
  }).request
  assert.deepEqual(raw, {
    headers: 'Host: x\r\nAuthorization: [Filtered]\nCookie: a=b; sid=[Filtered]',
    cookies: 'a=b; session=[Filtered]; theme=dark',
  })
})

test('secrets inside texts are replaced where they stand', () => {
  const cases: [sent: string, kept: string][] = [
    // name=value
    ['user=alice&password=hunter2&x=1', 'user=alice&password=[Filtered]&x=1'],
    ['user%5Bpassword%5D=hunter2', 'user%5Bpassword%5D=[Filtered]'],
    ['GET https://a.example/?token=abc&b=c#d', 'GET https://a.example/?token=[Filtered]&b=c#d'],
    ['Server=db;User=sa;Password=hunter2;', 'Server=db;User=sa;Password=[Filtered];'],
    ["login(password='hunter 2', a=1)", "login(password='[Filtered]', a=1)"],
    ['if (token==null || token => 5) a=', 'if (token==null || token => 5) a='],
    ['password=', 'password='],
    // JSON, as it is, cut, escaped and printed
    ['{"password":"hunter2","a":1}', '{"password":"[Filtered]","a":1}'],
    ['{"password" : "hun\\"ter2" , "a":1}', '{"password" : "[Filtered]" , "a":1}'],
    ['{"a":1,"password":"hunt', '{"a":1,"password":"[Filtered]'],
    ['{"pin":1234,"a":1}', '{"pin":"[Filtered]","a":1}'],
    ['{"auth":{"user":"a","x":["}"]},"a":1}', '{"auth":"[Filtered]","a":1}'],
    ['{"auth":{"user":"a"', '{"auth":"[Filtered]"'],
    ['{"token":null,"secret":true}', '{"token":null,"secret":true}'],
    ['"{\\"password\\":\\"hunter2\\",\\"a\\":1}"', '"{\\"password\\":\\"[Filtered]\\",\\"a\\":1}"'],
    ["{'password': 'hunter2', 'a': None}", "{'password': '[Filtered]', 'a': None}"],
    ["{ password: 'hunter2', a: 1 }", "{ password: '[Filtered]', a: 1 }"],
    ['Unexpected token: } in JSON', 'Unexpected token: } in JSON'],
    ['password: must not be blank', 'password: must not be blank'],
    // Authorization
    ['sent Authorization: Bearer abc.def-123 to x', 'sent Authorization: Bearer [Filtered] to x'],
    ['bearer token is missing', 'bearer token is missing'],
    [`Basic ${Buffer.from('user:hunter2').toString('base64')} sent`, 'Basic [Filtered] sent'],
    ['Basic authentication failed', 'Basic authentication failed'],
    // URLs
    ['https://user:hunter2@a.example/b', 'https://[Filtered]@a.example/b'],
    ['https://ghp_abc@github.com/a/b', 'https://[Filtered]@github.com/a/b'],
    ['connect postgres://u:p/a#s?s@db:5432/x failed', 'connect postgres://[Filtered]@db:5432/x failed'],
    ['https://a.example/@user and https://b.example/c?d=e@f', 'https://a.example/@user and https://b.example/c?d=e@f'],
    // keys
    [
      'a\n-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----\nb',
      'a\n-----BEGIN RSA PRIVATE KEY-----\n[Filtered]\n-----END RSA PRIVATE KEY-----\nb',
    ],
    ['-----BEGIN OPENSSH PRIVATE KEY-----\nMIIabc', '-----BEGIN OPENSSH PRIVATE KEY-----\n[Filtered]\n'],
    ['-----BEGIN CERTIFICATE-----\nMIIabc\n-----END', '-----BEGIN CERTIFICATE-----\nMIIabc\n-----END'],
    // numbers
    ['card 4111 1111 1111 1111 declined', 'card [Filtered] declined'],
    ['card 4111-1111-1111-1111, 378282246310005.', 'card [Filtered], [Filtered].'],
    [
      'order 4111111111111112 at 1763898796123 of 1763898796123456',
      'order 4111111111111112 at 1763898796123 of 1763898796123456',
    ],
    ['sha 4111111111111111abcdef, 0.4111111111111111', 'sha 4111111111111111abcdef, 0.4111111111111111'],
    ['ssn 078-05-1120 and 000-12-3456, 2026-11-23', 'ssn [Filtered] and 000-12-3456, 2026-11-23'],
    ['to DE89370400440532013000 or GB82 WEST 1234 5698 7654 32', 'to [Filtered] or [Filtered]'],
    ['to DE89370400440532013001', 'to DE89370400440532013001'],
    // nothing
    ['alice@example.com wrote', 'alice@example.com wrote'],
  ]
  for (const [sent, kept] of cases) {
    assert.equal(clean(sent), kept)
    assert.equal(clean(kept), kept, 'a second time')
  }
})

test('messages hide addresses of mail, and source code keeps its names', () => {
  assert.equal(clean('mail to alice.b+c@mail.example.com failed', 'message'), 'mail to [Filtered] failed')
  assert.equal(clean('npm i @sentry/node@11.1.0', 'message'), 'npm i @sentry/node@11.1.0')
  const event = {
    logentry: { message: 'mail to %s', params: ['a@b.example', { password: 'x' }], formatted: 'to a@b.example' },
  }
  assert.deepEqual(scrubbed(event).logentry, {
    message: 'mail to %s',
    params: ['[Filtered]', { password: '[Filtered]' }],
    formatted: 'to [Filtered]',
  })
  const line = `login(password=given, token="abc", url="https://a:b@c/?api_key=abc")`
  assert.equal(
    clean(line, 'source'),
    'login(password=given, token="[Filtered]", url="https://[Filtered]@c/?api_key=[Filtered]")',
  )
})

test('what identifies programs is not touched', () => {
  const event = {
    event_id: 'a'.repeat(32),
    release: 'auth-token@1.0',
    modules: { 'passport-auth0': '1.4.4', jsonwebtoken: '9.0.0' },
    debug_meta: { images: [{ type: 'macho', debug_id: '4111111111111111', token: 'x' }] },
    exception: {
      values: [
        { type: 'AuthError', value: 'denied', stacktrace: { frames: [{ function: 'auth=1', module: 'token=2' }] } },
      ],
    },
    contexts: { trace: { trace_id: 'b'.repeat(32), span_id: 'c'.repeat(16) } },
    fingerprint: ['token', 'expected'],
  }
  assert.deepEqual(scrubbed(event), event)
})

test('a project names more fields, and some that are safe', () => {
  const sent = {
    Iban_Holder: 'a',
    nested: { 'the iban': 5 },
    note: 'iban=5',
    password: 'x',
    auth_kind: 'oauth',
    author: 'b',
  }
  assert.deepEqual(extra(sent, { sensitive_fields: [' IBAN '], safe_fields: ['AUTH_KIND'] }), {
    Iban_Holder: '[Filtered]',
    nested: { 'the iban': '[Filtered]' },
    note: 'iban=[Filtered]',
    password: '[Filtered]',
    auth_kind: 'oauth',
    author: 'b',
  })
  assert.deepEqual(extra({ note: 'Bearer abc', inner: { password: 'x' } }, { safe_fields: ['note', 'inner'] }), {
    note: 'Bearer abc',
    inner: { password: '[Filtered]' },
  })
})

test('a project may scrub only its own fields, or nothing', () => {
  const sent = { iban: 'a', password: 'x', card: 4111111111111111, url: 'https://a:b@c/?iban=1&token=2' }
  assert.deepEqual(extra(sent, { scrub_defaults: false, sensitive_fields: ['iban'] }), {
    ...sent,
    iban: '[Filtered]',
    url: 'https://a:b@c/?iban=[Filtered]&token=2',
  })
  assert.deepEqual(extra(sent, { scrub_data: false, sensitive_fields: ['iban'] }), sent)
  assert.deepEqual(extra({ card: 4111111111111111, order: 4111111111111112 }), {
    card: '[Filtered]',
    order: 4111111111111112,
  })
})

test('a project without addresses has none, wherever they stand', () => {
  const event = {
    message: 'from 203.0.113.9:5432, ::1 and 2001:db8::8a2e:370:7334.',
    user: { id: 1, ip_address: '203.0.113.9' },
    request: {
      env: { REMOTE_ADDR: '203.0.113.9' },
      headers: { 'X-Forwarded-For': '203.0.113.9, 10.0.0.1', 'User-Agent': 'Chrome/120.0.0.0' },
    },
    contexts: { browser: { name: 'Chrome', version: '120.0.0.0' } },
    extra: { note: 'A::B at 12:30:45, version v1.2.3.4, 999.1.1.1, 1.2.3' },
  }
  assert.deepEqual(scrubbed(event, { scrub_ip_addresses: true }), {
    message: 'from [ip]:5432, [ip] and [ip].',
    user: { id: 1 },
    request: { env: {}, headers: { 'X-Forwarded-For': '[ip], [ip]', 'User-Agent': 'Chrome/120.0.0.0' } },
    contexts: { browser: { name: 'Chrome', version: '120.0.0.0' } },
    extra: { note: 'A::B at 12:30:45, version v1.2.3.4, 999.1.1.1, 1.2.3' },
  })
  assert.deepEqual(scrubbed(event, { scrub_data: false }), event)
})

test('no text takes long', () => {
  const parts = [
    'password=',
    '"token":',
    '"token":"',
    '"token":{"',
    "'auth': '\\",
    '://a:b',
    'postgres://',
    'a@',
    'a@b.',
    '=',
    '4',
    '4 1',
    '4111-',
    'DE89 ',
    'GB82WEST1234569876543',
    '078-05-',
    'Bearer ',
    'Bearer\t\t',
    'Basic aaaa',
    '-----BEGIN ',
    '-----BEGIN PRIVATE KEY-----',
    '1.2.3.',
    'a:',
    '::',
    '\\',
    '\\"',
    'a[',
    'token%5B',
  ]
  const start = process.hrtime.bigint()
  for (const part of parts) {
    const text = part.repeat(Math.ceil(60_000 / part.length))
    scrubText(text, { names, secrets: true, ips: true }, 'message')
    scrubText(`"token":${text}`, { names, secrets: true, ips: true }, 'text')
  }
  // 54 texts of 60 KB: what searched a text twice for each of its parts would take minutes.
  assert.ok(Number(process.hrtime.bigint() - start) < 20e9)
})
