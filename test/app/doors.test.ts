import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type IncomingHttpHeaders, request } from 'node:http'
import { type TestContext, test } from 'node:test'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { WebSocket } from 'ws'
import { createContention } from '../../server/contention.ts'
import { AppError } from '../../server/errors.ts'
import { createHttpServer } from '../../server/http/uws.ts'
import { createAccept, type Outcome, type ProjectKey, type Reports } from '../../server/ingest/accept.ts'
import { ingestRoutes } from '../../server/ingest/doors.ts'
import type { Event } from '../../server/ingest/event.ts'
import { standardSettings } from '../../server/ingest/scrub.ts'
import { createSenderOf } from '../../server/ingest/sender.ts'
import { ingestSocket, maxInFlight } from '../../server/ingest/socket.ts'
import { createTurns } from '../../server/ingest/turns.ts'
import { createLog } from '../../server/log.ts'
import { eventually } from '../support/eventually.ts'
import { dialRaw } from '../support/raw.ts'

const key = '0123456789abcdef0123456789abcdef'
const foreign = 'f'.repeat(32)
const id = 'a'.repeat(32)
const anId = /^[0-9a-f]{32}$/

/** The doors with a writer that the test answers for. */
async function open(t: TestContext, { maxHeld }: { maxHeld?: number } = {}) {
  const log = createLog('error')
  const asked: string[] = []
  const keys = new Map<string, ProjectKey>([
    [key, { project_id: '42', public_key: key, scrubbing: standardSettings }],
    [foreign, { project_id: '43', public_key: foreign, scrubbing: standardSettings }],
  ])
  const events: Event[] = []
  const counted: string[] = []
  const reports: Reports[] = []
  let refusal: AppError | null = null
  let write = async (_event: Event): Promise<Outcome> => ({ status: 'accepted', issue_id: '7' })
  const accept = createAccept({
    keys: {
      find(publicKey) {
        asked.push(publicKey)
        return keys.get(publicKey) ?? null
      },
    },
    writer: {
      add(_project, event) {
        events.push(event)
        return write(event)
      },
      refusal: () => refusal,
    },
    reports: {
      async add(_project, sent) {
        reports.push(sent)
      },
    },
    turns: createTurns({ contention: createContention(), now: () => performance.now() }),
    log,
    now: Date.now,
    countDropped: ({ type }) => counted.push(type),
    countEvent: () => {},
  })
  const senderOf = createSenderOf([])
  const server = createHttpServer({ log, maxHeld })
  for (const route of ingestRoutes({ accept, senderOf })) server.http(route)
  const socket = ingestSocket({ accept, senderOf, log })
  server.socket(socket.route)
  const port = await server.listen('127.0.0.1', 0)
  t.after(() => server.close())
  return {
    port,
    closeListener: () => server.closeListener(),
    keys,
    asked,
    events,
    counted,
    reports,
    socket,
    onWrite(next: typeof write) {
      write = next
    },
    /** From now on nothing is admitted. */
    refuse(error: AppError) {
      refusal = error
    },
  }
}

interface Answer {
  status: number
  headers: Record<string, string | string[] | undefined>
  /** The parsed body; undefined when it is empty. */
  json: unknown
}

function send(
  port: number,
  method: string,
  path: string,
  body: string | Buffer = '',
  headers: Record<string, string> = {},
) {
  return new Promise<Answer>((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, method, path, headers }, async (response) => {
      let text = ''
      for await (const chunk of response) text += chunk
      resolve({
        status: response.statusCode!,
        headers: response.headers,
        json: text === '' ? undefined : JSON.parse(text),
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

const post = (port: number, path: string, body: string | Buffer = '', headers: Record<string, string> = {}) =>
  send(port, 'POST', path, body, headers)
const envelopeOf = (event: object, header: object = {}) =>
  `${JSON.stringify(header)}\n{"type":"event"}\n${JSON.stringify(event)}\n`

/** A client of `/ingest` that keeps what it hears from the start. */
async function connect(t: TestContext, port: number) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ingest?sentry_key=${key}`)
  t.after(() => socket.terminate())
  const heard: Record<string, unknown>[] = []
  const waiting: (() => void)[] = []
  socket.on('message', (data) => {
    heard.push(JSON.parse(String(data)))
    for (const wake of waiting.splice(0)) wake()
  })
  const closed = once(socket, 'close').then(([code]) => code as number)
  await once(socket, 'open')
  return {
    socket,
    closed,
    /** The next answers, in the order in which they came. */
    async take(count: number) {
      while (heard.length < count) await new Promise<void>((resolve) => waiting.push(resolve))
      return heard.splice(0, count)
    },
    async answerTo(frame: string | Buffer) {
      socket.send(frame)
      return (await this.take(1))[0]!
    },
  }
}

/** The status with which an upgrade is refused. */
async function refusedUpgrade(port: number, query: string, headers: Record<string, string> = {}) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ingest${query}`, { headers })
  socket.on('error', () => {})
  const [, response] = await once(socket, 'unexpected-response')
  response.destroy()
  return response.statusCode as number
}

test('an envelope is answered 200 with its id once it is written, from every place a key may be', async (t) => {
  const app = await open(t)
  const dashed = 'AAAAAAAA-aaaa-aaaa-aaaa-aaaaaaaaaaaa'
  const body = envelopeOf({ message: 'a', event_id: 'b'.repeat(32) }, { event_id: dashed })
  const tunnel = envelopeOf({ message: 'a' }, { event_id: id, dsn: `http://${key}@127.0.0.1/42` })
  const basic = `Basic ${Buffer.from(`${key}:`).toString('base64')}`
  const answers = [
    await post(app.port, `/api/42/envelope/?sentry_key=${key}&sentry_version=7`, body),
    await post(app.port, `/api/42/envelope?sentry_key=${key}`, body),
    await post(app.port, `/api/0042/envelope/`, body, { 'x-sentry-auth': `Sentry sentry_key=${key}` }),
    await post(app.port, `/api/42/envelope/`, body, { authorization: basic, 'content-type': 'text/plain' }),
    await post(app.port, `/api/42/envelope/`, tunnel),
    await post(app.port, `/api/42/envelope/?sentry_key=${key}`, gzipSync(body), { 'content-encoding': 'gzip' }),
    await post(app.port, `/api/42/envelope/?sentry_key=${key}`, body, { 'transfer-encoding': 'chunked' }),
  ]
  for (const answer of answers) {
    assert.equal(answer.status, 200)
    assert.deepEqual(answer.json, { id })
    assert.equal(answer.headers['access-control-allow-origin'], '*')
  }
  assert.equal(app.events.length, answers.length)
})

test('real envelopes of the Node SDK are taken, and items that are no events are counted', async (t) => {
  const app = await open(t)
  const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url))
  const path = `/api/42/envelope/?sentry_key=${key}`
  await post(app.port, path, fixture('node-v11.attachments.event+attachment.envelope'))
  await post(app.port, path, fixture('node-v11.exception-large-gzip.event.envelope.gz'), { 'content-encoding': 'gzip' })
  assert.deepEqual(
    app.events.map((event) => event.level),
    ['error', 'error'],
  )
  assert.ok(app.counted.length > 0 && app.counted.every((type) => type === 'attachment'))
  // The attachments of the first are not held in memory by the event.
  assert.ok(app.events.every((event) => event.payload.buffer.byteLength < 2 * event.payload.length + 64 * 1024))
})

test('an envelope without events is answered 200, and unknown items never make a new metric', async (t) => {
  const app = await open(t)
  const path = `/api/42/envelope/?sentry_key=${key}`
  assert.deepEqual((await post(app.port, path, '{}\n{"type":"session"}\n{}\n{"type":"made_up_1"}\n{}')).json, {})
  assert.deepEqual((await post(app.port, path, `{"event_id":"${id}"}\n`)).json, { id })
  const two = `${envelopeOf({ message: 'first' })}{"type":"event"}\n{"message":"second"}\n`
  assert.equal((await post(app.port, path, two)).status, 200)
  assert.deepEqual(app.counted, ['session', 'other', 'event'])
  assert.deepEqual(
    app.events.map((event) => event.title),
    ['first'],
  )
})

test('a tunnel takes its key and its project from the dsn of the envelope, and from nowhere else', async (t) => {
  const app = await open(t)
  const dsn = (publicKey: string, project: string) =>
    envelopeOf({ message: 'a' }, { event_id: id, dsn: `https://${publicKey}@h/x/${project}` })
  for (const path of ['/tunnel', '/tunnel/', '/errors/tunnel']) {
    assert.deepEqual((await post(app.port, path, dsn(key, '42'))).json, { id })
    assert.deepEqual((await post(app.port, path, gzipSync(dsn(key, '0042')), { 'content-encoding': 'gzip' })).json, {
      id,
    })
  }
  assert.equal(app.events.length, 6)
  const refused: [body: string, status: number][] = [
    [dsn(key, '43'), 403],
    [dsn('0'.repeat(32), '42'), 403],
    [dsn(key, 'shop'), 401],
    [envelopeOf({ message: 'a' }), 401],
    ['nonsense', 400],
    ['', 400],
  ]
  for (const [body, status] of refused) {
    const answer = await post(app.port, '/tunnel', body)
    assert.equal(answer.status, status, body)
    assert.equal(answer.headers['access-control-allow-origin'], '*')
  }
  assert.equal(app.events.length, 6)
})

test('the dsn of an envelope has to agree with key and path, and one that is none is nobody’s', async (t) => {
  const app = await open(t)
  const path = `/api/42/envelope/?sentry_key=${key}`
  const sent = async (dsn: unknown) => (await post(app.port, path, envelopeOf({ message: 'a' }, { dsn }))).status
  assert.equal(await sent(`http://${key}@h/42`), 200)
  assert.equal(await sent('nonsense'), 200)
  assert.equal(await sent(5), 200)
  assert.equal(await sent(`http://${key}@h/43`), 403)
  assert.equal(await sent(`http://${foreign}@h/42`), 401)
})

test('every Sentry door works below a prefix, with and without its last slash, and with slashes too many', async (t) => {
  const app = await open(t)
  const query = `?sentry_key=${key}`
  const event = JSON.stringify({ event_id: id, message: 'a' })
  const paths: [path: string, body: string][] = ['', '/', '//'].flatMap((slash): [string, string][] => [
    [`/errors/api/42/envelope${slash}`, envelopeOf({ message: 'a' }, { event_id: id })],
    [`/a/b/c/api/0042/envelope${slash}`, envelopeOf({ message: 'a' }, { event_id: id })],
    [`//api/42//envelope${slash}`, envelopeOf({ message: 'a' }, { event_id: id })],
    [`/errors/api/42/store${slash}`, event],
    [`/api/store${slash}`, event],
    [`/errors/api/store${slash}`, event],
  ])
  for (const [path, body] of paths) {
    const answer = await post(app.port, `${path}${query}`, body)
    assert.deepEqual([answer.status, answer.json], [200, { id }], path)
    const preflight = await send(app.port, 'OPTIONS', path)
    assert.deepEqual([preflight.status, preflight.headers['access-control-allow-origin']], [204, '*'], path)
  }
  assert.equal(app.events.length, paths.length)
  assert.equal((await post(app.port, `/errors/api/shop/envelope/${query}`)).status, 404)
  assert.equal((await post(app.port, `/errors/api/42/minidump/${query}`)).status, 404)
  assert.equal((await post(app.port, `/envelope/${query}`)).status, 404)
})

test('a wrong key is refused with the first line, before the rest of the body has come', async (t) => {
  const app = await open(t)
  const header = (publicKey: string) => `{"dsn":"http://${publicKey}@h/42"}\n`
  for (const path of ['/tunnel', '/api/42/envelope/']) {
    const connection = await dialRaw(app.port)
    t.after(() => connection.socket.destroy())
    connection.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n${header('0'.repeat(32))}`)
    assert.equal((await connection.next())?.status, 403)
  }
  const endless = await dialRaw(app.port)
  t.after(() => endless.socket.destroy())
  endless.write(`POST /tunnel HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n${'x'.repeat(20_000)}`)
  const answer = await endless.next()
  assert.equal(answer?.status, 400)
  assert.match(answer?.body ?? '', /16 KiB/)
})

test('a key that has to be looked up is, once, while the body goes on', async (t) => {
  const app = await open(t)
  const known = app.keys.get(key)!
  const event = JSON.stringify({ message: 'x'.repeat(200_000), event_id: id })
  const body = `{"dsn":"http://${key}@h/42"}\n{"type":"event"}\n${event}\n`
  for (const [found, status] of [
    [known, 200],
    [null, 403],
  ] as const) {
    let answerLookup = (_key: ProjectKey | null) => {}
    const looking = new Promise<ProjectKey | null>((resolve) => {
      answerLookup = resolve
    }) as unknown as ProjectKey
    app.keys.get = () => looking
    const connection = await dialRaw(app.port)
    t.after(() => connection.socket.destroy())
    const before = app.asked.length
    connection.write(
      `POST /tunnel HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, 100_000)}`,
    )
    await eventually(() => assert.equal(app.asked.length, before + 1))
    if (found) connection.write(body.slice(100_000, -1))
    // What is asked now is answered after all that was sent before.
    assert.equal((await send(app.port, 'OPTIONS', '/tunnel')).status, 204)
    assert.equal(app.asked.length, before + 1)
    answerLookup(found)
    if (found) connection.write(body.slice(-1))
    assert.equal((await connection.next())?.status, status)
  }
  assert.equal(app.events.length, 1)
})

test('bodies are bounded all together; large ones never keep an ordinary event out', async (t) => {
  const app = await open(t, { maxHeld: 2_000_000 })
  const path = `/api/v1/events/bulk?sentry_key=${key}`
  const body = `[${' '.repeat(1_200_000)}{"message":"a"}]`
  const slow = await dialRaw(app.port)
  t.after(() => slow.socket.destroy())
  slow.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, -1)}`)
  await eventually(async () => {
    const refused = await post(app.port, path, body)
    assert.equal(refused.status, 503)
    assert.match(String(refused.headers['retry-after']), /^[1-9]\d*$/)
    assert.equal(refused.headers['access-control-allow-origin'], '*')
  })
  assert.equal((await post(app.port, `/api/42/store/?sentry_key=${key}`, '{"message":"a"}')).status, 200)
  // Attachments are read past: they take no room.
  const attached = `${envelopeOf({ message: 'a' })}{"type":"attachment"}\n${'x'.repeat(3_000_000)}`
  assert.equal((await post(app.port, `/api/42/envelope/?sentry_key=${key}`, attached)).status, 200)
  slow.write(']')
  assert.equal((await slow.next())?.status, 202)
  // Whatever was held is given back, also by who went away.
  for (let n = 0; n < 5; n++) {
    const gone = await dialRaw(app.port)
    gone.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, -1)}`)
    gone.socket.resetAndDestroy()
    await eventually(async () => assert.equal((await post(app.port, path, body)).status, 202))
  }
})

test('CSP reports in both forms become events; other reports are counted, and what is none is refused', async (t) => {
  const app = await open(t)
  const path = `/api/42/security/?sentry_key=${key}&sentry_release=shop%401&sentry_environment=staging`
  const byReportUri = {
    'csp-report': {
      'document-uri': 'https://shop.example.com/cart',
      referrer: 'https://shop.example.com/',
      'violated-directive': "script-src-elem 'self'",
      'effective-directive': 'script-src-elem',
      'original-policy': "default-src 'self'",
      'blocked-uri': 'https://evil.example.com/x.js?id=1',
      'status-code': 200,
    },
  }
  const one = await post(app.port, path, JSON.stringify(byReportUri), {
    'content-type': 'application/csp-report',
    'user-agent': 'Browser/1',
  })
  assert.deepEqual([one.status, one.json, one.headers['access-control-allow-origin']], [200, undefined, '*'])
  const list = [
    {
      type: 'csp-violation',
      age: 10,
      url: 'https://shop.example.com/cart',
      user_agent: 'Browser/2',
      body: { blockedURL: 'inline', effectiveDirective: 'style-src-attr', disposition: 'enforce', lineNumber: 7 },
    },
    { type: 'deprecation', body: { id: 'x' } },
    { type: 'csp-violation', body: { effectiveDirective: 'img-src', blockedURL: 'data:image/png;base64,xx' } },
  ]
  assert.equal(
    (await post(app.port, path, JSON.stringify(list), { 'content-type': 'application/reports+json' })).status,
    200,
  )
  assert.equal((await post(app.port, path, '{"expect-ct-report":{}}')).status, 200)
  assert.deepEqual(app.counted, ['security', 'security'])
  assert.deepEqual(
    app.events.map((event) => [event.message, event.environment, event.release]),
    [
      ["Blocked 'script' from 'evil.example.com'", 'staging', 'shop@1'],
      ["Blocked inline 'style'", 'staging', 'shop@1'],
      ["Blocked 'img' from 'data'", 'staging', 'shop@1'],
    ],
  )
  assert.equal(new Set(app.events.map((event) => event.title)).size, 3)
  const payload = JSON.parse(String(app.events[0]!.payload))
  assert.equal(payload.csp.effective_directive, 'script-src-elem')
  assert.equal(payload.csp.blocked_uri, 'https://evil.example.com/x.js?id=1')
  assert.deepEqual(payload.request.headers, [
    ['User-Agent', 'Browser/1'],
    ['Referer', 'https://shop.example.com/'],
  ])
  assert.equal(JSON.parse(String(app.events[1]!.payload)).csp.line_number, 7)
  for (const body of [
    '',
    'nonsense',
    '{}',
    '5',
    '[5]',
    '{"csp-report":{}}',
    '{"csp-report":{"effective-directive":7}}',
    `[${Array(101).fill('{"type":"x"}')}]`,
  ]) {
    const answer = await post(app.port, path, body)
    // A number reads as the text of one.
    assert.equal(answer.status, body.includes('7') ? 200 : 400, body.slice(0, 60))
  }
  assert.equal((await post(app.port, '/api/42/security/', '{}')).status, 401)
  app.onWrite(async () => {
    throw new AppError('rate_limited', 'Too many events.', { retryAfter: 2 })
  })
  assert.equal((await post(app.port, path, JSON.stringify(byReportUri))).status, 429)
})

test('every item type of the protocol is answered 200, and counted in its category when it is dropped', async (t) => {
  const app = await open(t)
  const types = [
    ...[
      'transaction',
      'span',
      'otel_span',
      'session',
      'sessions',
      'attachment',
      'check_in',
      'log',
      'otel_log',
      'trace_metric',
    ],
    ...[
      'metric',
      'statsd',
      'metric_buckets',
      'metric_meta',
      'profile',
      'profile_chunk',
      'profile_chunk_ui',
      'replay_event',
    ],
    ...[
      'replay_recording',
      'replay_video',
      'security',
      'raw_security',
      'nel',
      'unreal_report',
      'form_data',
      'integration',
    ],
  ]
  for (const type of types) {
    const body = `{"event_id":"${id}"}\n${JSON.stringify({ type, length: 3, item_count: 2 })}\n\n\0x\n`
    const answer = await post(app.port, `/api/42/envelope/?sentry_key=${key}`, body)
    assert.deepEqual([answer.status, answer.json], [200, { id }], type)
  }
  assert.deepEqual(app.counted, types)
})

test('client reports, user reports and feedback are kept, with an event or alone; what says nothing is dropped', async (t) => {
  const app = await open(t)
  const path = `/api/42/envelope/?sentry_key=${key}`
  const report = { discarded_events: [{ reason: 'sample_rate', category: 'error', quantity: 3 }] }
  const said = { event_id: 'B'.repeat(32), name: 'Ada', email: 'ada@example.com', comments: 'It broke' }
  const item = (type: string, payload: unknown) => `${JSON.stringify({ type })}\n${JSON.stringify(payload)}\n`
  await post(app.port, path, `${envelopeOf({ message: 'a' })}${item('client_report', report)}`)
  await post(app.port, path, `{}\n${item('user_report', said)}${item('user_report', { comments: 'of nothing' })}`)
  await post(app.port, path, readFileSync(new URL('../fixtures/node-v11.feedback.feedback.envelope', import.meta.url)))
  await post(
    app.port,
    path,
    `{}\n${item('client_report', {})}${item('client_report', 'x')}{"type":"feedback"}\nnonsense\n`,
  )
  assert.deepEqual(
    app.events.map((event) => event.title),
    ['a'],
  )
  assert.deepEqual(app.counted, ['user_report', 'client_report', 'client_report', 'feedback'])
  const [first, second, third] = app.reports
  assert.equal(app.reports.length, 3)
  assert.deepEqual(first!.discarded, report.discarded_events)
  assert.deepEqual(
    { ...second!.feedback[0], id: '', received_at: 0 },
    {
      id: '',
      event_id: 'b'.repeat(32),
      name: 'Ada',
      email: 'ada@example.com',
      message: 'It broke',
      url: null,
      received_at: 0,
    },
  )
  assert.deepEqual(
    { ...third!.feedback[0], received_at: 0 },
    {
      id: 'dbba747050804ed4aaa829630c88e79a',
      event_id: '9ec79c33ec9942ab8353589fcb2e04dc',
      name: 'Bob',
      email: 'bob@example.com',
      message: 'The button does nothing',
      url: 'https://example.com/x',
      received_at: 0,
    },
  )
})

test('the dialog of showReportDialog is a script with nothing of a stranger in it but text, and its form is kept', async (t) => {
  const app = await open(t)
  const nasty = '</script><script>alert(1)</script>\u2028"\'\\'
  const dsn = `http://${key}@h/42`
  const query = new URLSearchParams({ dsn, eventId: id, name: nasty, title: nasty })
  const path = `/api/embed/error-page/?${query}`
  const response = await fetch(`http://127.0.0.1:${app.port}${path}`)
  const script = await response.text()
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-type') ?? '', /^text\/javascript/)
  assert.equal(response.headers.get('access-control-allow-origin'), '*')
  assert.doesNotMatch(script, /<|\u2028/)
  let shown: unknown
  const stub = script.replace(/^\(function \(options\) \{[\s\S]*\}\)\(\{/, '(show)({')
  new Function('show', stub)((options: unknown) => {
    shown = options
  })
  assert.equal((shown as { name: string }).name, nasty)
  assert.equal((shown as { texts: { title: string; labelName: string } }).texts.title, nasty)
  assert.equal((shown as { texts: { title: string; labelName: string } }).texts.labelName, 'Name')
  new Function(`return ${script.slice(0, script.lastIndexOf(')('))})`)

  const form = new URLSearchParams({ name: 'Ada', email: 'ada@example.com', comments: 'It broke' }).toString()
  assert.deepEqual((await post(app.port, path, form)).json, { id })
  const said = app.reports[0]!.feedback[0]!
  assert.deepEqual([said.event_id, said.name, said.email, said.message], [id, 'Ada', 'ada@example.com', 'It broke'])
  assert.equal((await post(app.port, `/errors${path}`, form)).status, 200)
  const refused: [query: Record<string, string>, body: string, status: number][] = [
    [{ eventId: id }, form, 401],
    [{ dsn }, form, 400],
    [{ dsn, eventId: 'x' }, form, 400],
    [{ dsn: `http://${foreign}@h/42`, eventId: id }, form, 403],
    [{ dsn, eventId: id }, 'name=Ada', 422],
    [{ dsn, eventId: id }, 'x'.repeat(70_000), 413],
  ]
  for (const [fields, body, status] of refused) {
    const answer = await post(app.port, `/api/embed/error-page/?${new URLSearchParams(fields)}`, body)
    assert.equal(answer.status, status, JSON.stringify(fields))
    assert.equal(answer.headers['access-control-allow-origin'], '*')
  }
  assert.equal((await send(app.port, 'GET', '/api/embed/error-page/?dsn=x')).status, 401)
})

test('what people write is scrubbed, and their address is not', async (t) => {
  const app = await open(t)
  const feedback = {
    message: 'I cannot pay with 4111 1111 1111 1111',
    contact_email: 'ada@example.com',
    name: 'Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U',
    url: 'https://ada:hunter2@shop.example.com/?token=hunter2hunter2',
  }
  const body = `{}\n{"type":"feedback"}\n${JSON.stringify({ contexts: { feedback } })}\n`
  assert.equal((await post(app.port, `/api/42/envelope/?sentry_key=${key}`, body)).status, 200)
  const [said] = app.reports[0]!.feedback
  assert.equal(said!.email, 'ada@example.com')
  const text = JSON.stringify(said)
  for (const secret of ['4111', 'hunter2', 'dozjgNryP4']) assert.ok(!text.includes(secret), text)
  assert.match(said!.message, /^I cannot pay with /)
})

test('the store door takes events as JSON and as base64 of zlib', async (t) => {
  const app = await open(t)
  const path = `/api/42/store/?sentry_key=${key}`
  const event = JSON.stringify({ event_id: id, message: 'a' })
  assert.deepEqual((await post(app.port, path, event)).json, { id })
  assert.deepEqual((await post(app.port, path, deflateSync(event).toString('base64'))).json, { id })
  assert.deepEqual((await post(app.port, path, deflateSync(event), { 'content-encoding': 'deflate' })).json, { id })
  assert.equal((await post(app.port, `/api/42/store?sentry_key=${key}`, '{}')).status, 200)
  const form = `sentry_data=${encodeURIComponent(deflateSync(event).toString('base64'))}`
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  assert.deepEqual((await post(app.port, path, form, headers)).json, { id })
})

test('old clients are understood as they are: empty and odd encodings, odd types, all their parameters', async (t) => {
  const app = await open(t)
  const raven =
    'Sentry sentry_version=5, sentry_timestamp=1700000000.1, sentry_client=raven-node/2.6, sentry_key=KEY, sentry_secret=x'
  const auth = raven.replace('KEY', key)
  const event = JSON.stringify({ event_id: id, message: 'a', platform: 'node' })
  const body = envelopeOf({ message: 'a' }, { event_id: id })
  const chunked = { 'transfer-encoding': 'chunked' }
  const requests: [path: string, body: string | Buffer, headers: Record<string, string>][] = [
    [
      '/api/42/store/',
      deflateSync(event).toString('base64'),
      { 'x-sentry-auth': auth, 'content-type': 'application/octet-stream' },
    ],
    ['/api/42/store/', event, { 'x-sentry-auth': auth, 'content-type': 'application/json', 'content-encoding': '' }],
    [
      '/api/42/store/',
      gzipSync(event),
      { authorization: auth, 'content-encoding': 'gzip', 'content-type': 'application/octet-stream' },
    ],
    [
      `/api/42/store/?sentry_version=7&sentry_client=raven-js%2F3&sentry_key=${key}&sentry_secret=x`,
      event,
      { 'content-type': 'text/plain;charset=UTF-8' },
    ],
    [
      '/api/42/envelope/',
      body,
      { 'x-sentry-auth': auth, 'content-type': 'application/x-sentry-envelope', 'content-encoding': '' },
    ],
    ['/api/42/envelope/', body, { 'x-sentry-auth': auth, 'content-encoding': 'UTF-8' }],
    ['/api/42/envelope/', gzipSync(body), { 'x-sentry-auth': auth, 'content-encoding': 'gzip', ...chunked }],
    ['/api/42/envelope/', deflateSync(body), { 'x-sentry-auth': auth, 'content-encoding': 'deflate', ...chunked }],
    ['/api/42/envelope/', brotliCompressSync(body), { 'x-sentry-auth': auth, 'content-encoding': 'br', ...chunked }],
  ]
  for (const [path, bytes, headers] of requests) {
    const answer = await post(app.port, path, bytes, headers)
    assert.deepEqual([answer.status, answer.json], [200, { id }], `${path} ${JSON.stringify(headers)}`)
  }
  assert.equal(app.events.length, requests.length)
})

test('Mesher’s own doors answer 202 with the issue', async (t) => {
  const app = await open(t)
  const auth = { authorization: `Bearer ${key}` }
  const one = await post(app.port, '/api/v1/events', `{"message":"a","event_id":"${id}"}`, auth)
  assert.deepEqual([one.status, one.json], [202, { status: 'accepted', id, issue_id: '7' }])
  app.onWrite(async () => ({ status: 'dropped', reason: 'discarded', issue_id: null }))
  const dropped = await post(app.port, `/api/v1/events?sentry_key=${key}`, `{"message":"a","event_id":"${id}"}`)
  assert.deepEqual(
    [dropped.status, dropped.json],
    [202, { status: 'dropped', reason: 'discarded', issue_id: null, id }],
  )
})

test('a bulk answers each event in its place, and a bad one spoils no other', async (t) => {
  const app = await open(t)
  let second = () => {}
  const secondIsWritten = new Promise<void>((resolve) => {
    second = resolve
  })
  app.onWrite(async (event) => {
    if (event.title === 'limited') throw new AppError('rate_limited', 'Slow down.', { retryAfter: 3 })
    if (event.title === 'broken') throw new Error('a bug')
    if (event.title === 'one') await secondIsWritten
    else second()
    return { status: 'accepted', issue_id: event.title }
  })
  const ids = Array.from({ length: 8 }, (_, i) => String(i).repeat(32))
  const body = `[${[
    JSON.stringify({ message: 'one', event_id: ids[0] }),
    '{not json}',
    JSON.stringify({ level: 'error', event_id: ids[2] }),
    JSON.stringify({ message: 'limited', event_id: 'AS-SENT' }),
    JSON.stringify({ message: 'two', event_id: ids[4] }),
    '['.repeat(10_000) + ']'.repeat(10_000),
    JSON.stringify({ message: 'x'.repeat(1024 * 1024), event_id: ids[6] }),
    JSON.stringify({ message: 'broken', event_id: ids[7] }),
  ].join(',')}]`
  const answer = await post(app.port, `/api/v1/events/bulk?sentry_key=${key}`, body)
  assert.equal(answer.status, 202)
  const results = (answer.json as { results: Record<string, unknown>[] }).results
  assert.deepEqual(
    results.map((result) => [result.status, result.code ?? result.issue_id, result.id]),
    [
      ['accepted', 'one', ids[0]],
      ['rejected', 'bad_request', null],
      ['rejected', 'unprocessable', ids[2]],
      ['rejected', 'rate_limited', 'AS-SENT'],
      ['accepted', 'two', ids[4]],
      ['rejected', 'bad_request', null],
      ['rejected', 'too_large', null],
      ['rejected', 'internal', ids[7]],
    ],
  )
  assert.equal(results[3]!.retry_after, 3)
  assert.doesNotMatch(String(results[7]!.error), /a bug/)
})

test('a bulk is refused as a whole when it is no array, or too large, or too many', async (t) => {
  const app = await open(t)
  const path = `/api/v1/events/bulk?sentry_key=${key}`
  const status = async (body: string | Buffer, headers = {}) => (await post(app.port, path, body, headers)).status
  assert.equal(await status('{"message":"a"}'), 400)
  assert.equal(await status('[{}'), 400)
  assert.equal(await status(`[${Array(1001).fill('{"message":"a"}').join(',')}]`), 422)
  assert.equal(await status(`[${' '.repeat(5 * 1024 * 1024)}]`), 413)
  assert.equal(await status(gzipSync(`[${' '.repeat(5 * 1024 * 1024)}]`), { 'content-encoding': 'gzip' }), 413)
  assert.equal(app.events.length, 0)
  assert.deepEqual((await post(app.port, path, '[]')).json, { results: [] })
  const many = await post(app.port, path, `[${Array(1000).fill('{"message":"a"}').join(',')}]`)
  assert.equal((many.json as { results: unknown[] }).results.length, 1000)
  assert.equal(app.events.length, 1000)
})

test('wrong keys, foreign projects and malformed credentials are told apart no more than they should be', async (t) => {
  const app = await open(t)
  const body = envelopeOf({ message: 'a' })
  const cases: [path: string, headers: Record<string, string>, status: number][] = [
    ['/api/42/envelope/', {}, 401],
    ['/api/42/envelope/', { 'x-sentry-auth': 'nonsense' }, 401],
    [`/api/42/envelope/?sentry_key=${key}`, { 'x-sentry-auth': `Sentry sentry_key=${foreign}` }, 401],
    [`/api/42/envelope/?sentry_key=${'0'.repeat(32)}`, {}, 403],
    [`/api/42/envelope/?sentry_key=%00%27`, {}, 403],
    [`/api/42/envelope/?sentry_key=${foreign}`, {}, 403],
    [`/api/99/envelope/?sentry_key=${key}`, {}, 403],
    [`/api/shop/envelope/?sentry_key=${key}`, {}, 404],
    [`/api/v1/envelope/?sentry_key=${key}`, {}, 404],
    [`/api/-1/store/?sentry_key=${key}`, {}, 404],
    ['/api/42/store/', {}, 401],
    [`/api/99/store/?sentry_key=${key}`, {}, 403],
  ]
  const denied = new Set<unknown>()
  for (const [path, headers, status] of cases) {
    const answer = await post(app.port, path, body, headers)
    assert.equal(answer.status, status, path)
    assert.equal(answer.headers['access-control-allow-origin'], '*', path)
    assert.match(String(answer.headers['access-control-expose-headers']), /x-sentry-rate-limits/, path)
    const { detail } = answer.json as { detail: string }
    assert.equal(answer.headers['x-sentry-error'], detail)
    if (status === 403) denied.add(detail)
  }
  assert.equal(denied.size, 1)
  const otherDsn = envelopeOf({ message: 'a' }, { dsn: `http://${foreign}@h/43` })
  assert.equal((await post(app.port, `/api/42/envelope/?sentry_key=${key}`, otherDsn)).status, 401)
  assert.equal((await post(app.port, '/api/42/envelope/', otherDsn)).status, 403)
  for (const path of ['/api/v1/events', '/api/v1/events/bulk']) {
    const missing = await post(app.port, path, '{"message":"a"}')
    assert.deepEqual(
      [missing.status, (missing.json as { error: { code: string } }).error.code],
      [401, 'unauthenticated'],
    )
    assert.equal(
      (await post(app.port, path, '{"message":"a"}', { authorization: `Bearer ${'0'.repeat(32)}` })).status,
      403,
    )
  }
  assert.equal(app.events.length, 0)
})

test('bodies that cannot be read are answered with the reason, at both kinds of doors', async (t) => {
  const app = await open(t)
  const query = `?sentry_key=${key}`
  const deep = `{"message":"a","extra":${'['.repeat(10_000)}${']'.repeat(10_000)}}`
  const zeros = Buffer.alloc(41 * 1024 * 1024)
  const bomb = gzipSync(zeros)
  const attached = gzipSync(Buffer.concat([Buffer.from('{}\n{"type":"attachment"}\n'), zeros]))
  const gzip = { 'content-encoding': 'gzip' }
  const cases: [path: string, body: string | Buffer, headers: Record<string, string>, status: number][] = [
    [`/api/42/envelope/${query}`, '', {}, 400],
    [`/api/42/envelope/${query}`, 'nonsense', {}, 400],
    [`/api/42/envelope/${query}`, '{}\n{"type":"event"}\nnonsense', {}, 400],
    [`/api/42/envelope/${query}`, `{}\n{"type":"event"}\n${deep}`, {}, 400],
    [`/api/42/envelope/${query}`, '{}', gzip, 400],
    [`/api/42/envelope/${query}`, '{}', { 'content-encoding': 'zstd' }, 415],
    [`/api/42/envelope/${query}`, bomb, gzip, 400],
    [`/api/42/envelope/${query}`, attached, gzip, 413],
    [`/api/42/envelope/${query}`, envelopeOf({ message: 'x'.repeat(1024 * 1024) }), {}, 413],
    [`/api/42/store/${query}`, '', {}, 400],
    [`/api/42/store/${query}`, deep, {}, 400],
    [`/api/v1/events${query}`, '', {}, 400],
    [`/api/v1/events${query}`, '[{"message":"a"}]', {}, 400],
    [`/api/v1/events${query}`, deep, {}, 400],
    [`/api/v1/events${query}`, '{"message":"\\u0000"}', {}, 422],
    [`/api/v1/events${query}`, '{}', {}, 422],
    [`/api/v1/events${query}`, bomb, gzip, 413],
    [`/api/v1/events${query}`, 'x'.repeat(1024 * 1024 + 1), {}, 413],
  ]
  for (const [path, body, headers, status] of cases) {
    const answer = await post(app.port, path, body, headers)
    assert.equal(answer.status, status, `${path} ${body.length}`)
    assert.equal(answer.headers['access-control-allow-origin'], '*')
  }
  assert.equal(app.events.length, 0)
  assert.equal((await post(app.port, `/api/v1/events${query}`, '{"message":"a"}')).status, 202)
})

test('limits and outages tell SDKs when to come back', async (t) => {
  const app = await open(t)
  app.onWrite(async () => {
    throw new AppError('rate_limited', 'Too many events.', { retryAfter: 2.2 })
  })
  const limited = await post(app.port, `/api/42/envelope/?sentry_key=${key}`, envelopeOf({ message: 'a' }))
  assert.equal(limited.status, 429)
  assert.equal(limited.headers['retry-after'], '3')
  assert.equal(limited.headers['x-sentry-rate-limits'], '3:error;default;security;attachment:project:quota')
  app.onWrite(async () => {
    throw new AppError('unavailable', 'The database is away.')
  })
  for (const path of ['/api/42/store/', '/api/v1/events']) {
    const away = await post(app.port, `${path}?sentry_key=${key}`, '{"message":"a"}')
    assert.equal(away.status, 503)
    assert.match(String(away.headers['retry-after']), /^[1-9]\d*$/)
  }
  app.onWrite(async () => {
    throw new Error('a bug with secrets')
  })
  const broken = await post(app.port, `/api/v1/events?sentry_key=${key}`, '{"message":"a"}')
  assert.equal(broken.status, 500)
  assert.doesNotMatch(JSON.stringify(broken.json), /secrets/)
})

test('a door that is about to close still says so to browsers', async (t) => {
  const app = await open(t)
  const connection = await dialRaw(app.port)
  t.after(() => connection.socket.destroy())
  const body = envelopeOf({ message: 'a' })
  const request = `POST /api/42/envelope/?sentry_key=${key} HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  connection.write(request)
  assert.equal((await connection.next())?.status, 200)
  app.closeListener()
  connection.write(request)
  const refused = await connection.next()
  assert.equal(refused?.status, 503)
  assert.equal(refused.headers.get('access-control-allow-origin'), '*')
  assert.match(refused.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
  assert.match(refused.headers.get('x-sentry-error') ?? '', /shutting down/)
})

test('a refusal at a Sentry door says what was wrong beneath it', async (t) => {
  const app = await open(t)
  const answer = await post(app.port, `/api/42/envelope/?sentry_key=${key}`, '{}', { 'content-encoding': 'gzip' })
  const { detail, causes } = answer.json as { detail: string; causes: string[] }
  assert.equal(answer.headers['x-sentry-error'], detail)
  assert.deepEqual(causes, ['incorrect header check'])
  assert.deepEqual(((await post(app.port, '/tunnel', '')).json as { causes: string[] }).causes, [])
})

test('browsers may ask every door before they post', async (t) => {
  const app = await open(t)
  for (const path of [
    '/api/42/envelope/',
    '/api/42/envelope',
    '/api/42/store/',
    '/api/42/store',
    '/api/42/security/',
    '/api/42/security',
    '/api/store/',
    '/tunnel',
    '/api/embed/error-page/',
    '/api/v1/events',
    '/api/v1/events/bulk',
  ]) {
    const answer = await send(app.port, 'OPTIONS', path)
    assert.equal(answer.status, 204)
    assert.equal(answer.headers['access-control-allow-methods'], 'POST')
    assert.match(String(answer.headers['access-control-allow-headers']), /x-sentry-auth.*baggage/)
  }
})

test('/ingest answers each event of each frame once', async (t) => {
  const app = await open(t)
  const client = await connect(t, app.port)
  const accepted = { status: 'accepted', id, issue_id: '7' }
  assert.deepEqual(await client.answerTo(`{"message":"a","event_id":"${id}"}`), accepted)
  assert.deepEqual(await client.answerTo(Buffer.from(envelopeOf({ message: 'a' }, { event_id: id }))), accepted)
  client.socket.send(` [${Array(300).fill('{"message":"a"}').join(',')}, 5]`)
  const answers = await client.take(301)
  assert.equal(answers.filter((answer) => answer.status === 'accepted' && anId.test(String(answer.id))).length, 300)
  assert.equal(answers.filter((answer) => answer.code === 'bad_request').length, 1)
  assert.equal(app.events.length, 302)
  const session = Buffer.from(`{"event_id":"${id}"}\n{"type":"session"}\n{}`)
  assert.deepEqual(await client.answerTo(session), { status: 'ignored', id, items: ['session'] })
})

test('a bad frame on /ingest is answered and closes nothing', async (t) => {
  const app = await open(t)
  const client = await connect(t, app.port)
  const cases: [frame: string | Buffer, code: string, id: string | null][] = [
    ['', 'bad_request', null],
    ['nonsense', 'bad_request', null],
    ['[]', 'unprocessable', null],
    ['[{"message":"a"}', 'bad_request', null],
    [`[${Array(1001).fill('{}').join(',')}]`, 'unprocessable', null],
    [`{"event_id":"MINE"}`, 'unprocessable', 'MINE'],
    ['['.repeat(10_000), 'bad_request', null],
    [`{"message":"${'x'.repeat(1024 * 1024)}"}`, 'too_large', null],
    [Buffer.alloc(0), 'bad_envelope', null],
    [Buffer.from('{"message":"a"}\n{"message":"a"}'), 'bad_envelope', null],
    [Buffer.from(`{"event_id":"${id}"}\n{"type":"event"}\nnonsense`), 'bad_request', id],
    [Buffer.from(envelopeOf({ message: 'a' }, { dsn: `http://${foreign}@h/43` })), 'unauthenticated', null],
  ]
  for (const [frame, code, sent] of cases) {
    const answer = await client.answerTo(frame)
    assert.deepEqual([answer.status, answer.code, answer.id], ['rejected', code, sent], String(frame.slice(0, 40)))
    assert.equal(typeof answer.error, 'string')
  }
  assert.equal((await client.answerTo('{"message":"a"}')).status, 'accepted')
  assert.equal(app.events.length, 1)
})

test('a bad key never gets an open /ingest socket', async (t) => {
  const app = await open(t)
  assert.equal(await refusedUpgrade(app.port, ''), 401)
  assert.equal(await refusedUpgrade(app.port, '', { 'x-sentry-auth': 'nonsense' }), 401)
  assert.equal(await refusedUpgrade(app.port, `?sentry_key=${'0'.repeat(32)}`), 403)
  assert.equal(await refusedUpgrade(app.port, '', { authorization: `Bearer ${'0'.repeat(32)}` }), 403)
  assert.equal(app.socket.size(), 0)
})

test('/ingest bounds what waits for one socket, and says so', async (t) => {
  const app = await open(t)
  let release = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  app.onWrite(async () => {
    await gate
    return { status: 'accepted', issue_id: '7' }
  })
  const client = await connect(t, app.port)
  const event = `{"message":"a","event_id":"${id}"}`
  client.socket.send(
    `[${Array(maxInFlight - 1)
      .fill(event)
      .join(',')}]`,
  )
  client.socket.send(`[${Array(3).fill(event).join(',')}]`)
  const refused = await client.take(2)
  for (const answer of refused) {
    assert.deepEqual(
      { ...answer, error: '' },
      { status: 'rejected', error: '', code: 'rate_limited', id, retry_after: 1 },
    )
  }
  release()
  const answers = await client.take(maxInFlight)
  assert.ok(answers.every((answer) => answer.status === 'accepted'))
  assert.equal((await client.answerTo(event)).status, 'accepted')
})

test('a client that does not read its answers is closed, and others go on', async (t) => {
  const app = await open(t)
  const client = await connect(t, app.port)
  const other = await connect(t, app.port)
  client.socket.pause()
  // Refused frames with long ids: much answer for little work.
  const frame = `[${Array(900)
    .fill(`{"event_id":"${'x'.repeat(64)}"}`)
    .join(',')}]`
  while (app.socket.size() === 2) {
    client.socket.send(frame)
    assert.equal((await other.answerTo('{"message":"a"}')).status, 'accepted')
  }
  client.socket.resume()
  assert.ok([1006, 4408].includes(await client.closed))
})

test('a revoked key closes its sockets with 4401, and no others', async (t) => {
  const app = await open(t)
  const client = await connect(t, app.port)
  app.socket.closeKey(foreign)
  assert.equal((await client.answerTo('{"message":"a"}')).status, 'accepted')
  app.keys.delete(key)
  app.socket.closeKey(key)
  assert.equal(await client.closed, 4401)
  assert.equal(await refusedUpgrade(app.port, `?sentry_key=${key}`), 403)
})

test('draining sends every answer before it closes with 1001, and takes nothing new', async (t) => {
  const app = await open(t)
  let release = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  const idle = await connect(t, app.port)
  const busy = await connect(t, app.port)
  app.onWrite(async () => {
    await gate
    return { status: 'accepted', issue_id: '7' }
  })
  busy.socket.send(`[${Array(100).fill('{"message":"a"}').join(',')}, 5]`)
  await busy.take(1)
  const drained = app.socket.drain()
  assert.equal(await idle.closed, 1001)
  assert.equal(await refusedUpgrade(app.port, `?sentry_key=${key}`), 503)
  const late = await busy.answerTo('{"message":"late"}')
  assert.deepEqual([late.code, late.retry_after], ['shutting_down', 1])
  release()
  const answers = await busy.take(100)
  assert.ok(answers.every((answer) => answer.status === 'accepted'))
  assert.equal(await busy.closed, 1001)
  await drained
  await app.socket.drain()
  assert.equal(app.events.length, 100)
})

test('What there is no room for is refused from its headers alone where it can only be an event', async (t) => {
  const { port, refuse, events } = await open(t)
  refuse(new AppError('rate_limited', 'Too many events.', { retryAfter: 7 }))
  for (const path of ['/api/42/store/', '/api/v1/events']) {
    const answer = await new Promise<{ status?: number; headers: IncomingHttpHeaders }>((resolve, reject) => {
      const headers = { 'content-length': 1000 }
      const sent = request({ host: '127.0.0.1', port, method: 'POST', path: `${path}?sentry_key=${key}`, headers })
      sent.on('response', (response) => {
        resolve({ status: response.statusCode, headers: response.headers })
        sent.destroy()
      })
      sent.on('error', reject)
      sent.flushHeaders()
    })
    assert.equal(answer.status, 429, path)
    assert.equal(answer.headers['retry-after'], '7')
    const limits = path.startsWith('/api/42') ? '7:error;default;security;attachment:project:quota' : undefined
    assert.equal(answer.headers['x-sentry-rate-limits'], limits)
  }
  assert.equal(events.length, 0)
})

test('An envelope there is no room for is refused, and the reports in it are kept', async (t) => {
  const { port, refuse, events, reports } = await open(t)
  refuse(new AppError('rate_limited', 'Too many events.', { retryAfter: 7 }))
  const path = `/api/42/envelope/?sentry_key=${key}`
  const report =
    '{"type":"client_report"}\n{"discarded_events":[{"reason":"queue_overflow","category":"error","quantity":3}]}\n'
  const both = await post(port, path, `${envelopeOf({ message: 'refused' })}${report}`)
  assert.equal(both.status, 429)
  assert.equal(both.headers['x-sentry-rate-limits'], '7:error;default;security;attachment:project:quota')
  assert.equal((await post(port, path, `{}\n${report}`)).status, 200)
  assert.equal(events.length, 0)
  assert.deepEqual(
    reports.map(({ discarded }) => discarded.map(({ quantity }) => quantity)),
    [[3], [3]],
  )
})
