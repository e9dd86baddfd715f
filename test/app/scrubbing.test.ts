// Secrets in every place of every captured event, sent through every door: none is in the database, in the log, in an answer or
// on the stream.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { events } from '../fuzz/corpus.ts'
import { startApp, type TestApp } from '../support/app.ts'
import { newId } from '../support/batch.ts'
import { eventually } from '../support/eventually.ts'
import type { Scope } from '../support/scope.ts'

type Json = Record<string, unknown>

/** Of all that was captured, what is an event that says something. */
const captured = events.filter((bytes) => {
  const item = JSON.parse(bytes.toString()) as Json
  return item.event_id !== undefined && ['exception', 'message', 'logentry'].some((name) => item[name] !== undefined)
})

/** In every secret, and in nothing else. */
const mark = 'hush'
const card = '4111 1111 1111 1111'

/** What identifies programs, and what has to be read as something else than text. */
const untouched = new Set(
  (
    'event_id timestamp level platform release dist environment modules debug_meta sdk function raw_function module package ' +
    'type fingerprint trace_id span_id ip_address'
  ).split(' '),
)

/** Puts secrets beside every key and into every text; `count` numbers them. */
function plant(value: unknown, count: { n: number }): unknown {
  const secret = () => `${mark}${++count.n}`
  if (typeof value === 'string') {
    return (
      `${value} Bearer ${secret()} https://user:${secret()}@h.example/?token=${secret()}&a=b {"api_key":"${secret()}"} ` +
      `${card} -----BEGIN PRIVATE KEY-----\n${secret()}\n-----END PRIVATE KEY-----`
    )
  }
  if (Array.isArray(value)) return value.map((inner) => plant(inner, count))
  if (typeof value !== 'object' || value === null) return value
  const planted = Object.entries(value).map(([key, inner]) => [key, untouched.has(key) ? inner : plant(inner, count)])
  return {
    ...Object.fromEntries(planted),
    password: secret(),
    'X-Auth-Token': secret(),
    credentials: { user: secret(), list: [secret()] },
  }
}

/** The places that few SDKs use. */
function withRequest(event: Json, count: { n: number }): Json {
  const secret = () => `${mark}${++count.n}`
  return {
    ...event,
    request: {
      url: `https://shop.example/?api_key=${secret()}`,
      method: 'POST',
      query_string: `a=b&password=${secret()}`,
      cookies: [
        ['sessionid', secret()],
        ['theme', 'dark'],
      ],
      headers: [
        ['Authorization', `Basic ${secret()}`],
        ['Cookie', `theme=dark; connect.sid=${secret()}`],
      ],
      data: `{"user":"a","nested":{"passwd":"${secret()}"},"token":"${secret()}`,
      env: { HTTP_AUTHORIZATION: secret(), HTTP_COOKIE: `sid=${secret()}` },
    },
    extra: {
      ...(event.extra as Json),
      argv: ['run', '--password', secret(), `--token=${secret()}`],
      form: `user=a&client_secret=${secret()}&b=c`,
      headers: [{ name: 'X-Api-Key', value: secret() }],
    },
    tags: [
      ['plain', 'kept'],
      ['secret', secret()],
    ],
    'sentry.interfaces.User': { id: 'kept', password: secret(), name: `Bearer ${secret()}` },
    logentry: { message: 'mail to %s', params: [`${secret()}@mail.example`] },
  }
}

type Door = (event: Json) => Promise<string>

function doors(t: Scope, server: TestApp): Door[] {
  const post = async (path: string, body: string) => {
    const response = await fetch(`${server.url}${path}?sentry_key=${server.public_key}`, { method: 'POST', body })
    const text = await response.text()
    assert.ok(response.ok, text)
    return text
  }
  const socket = async (frame: Buffer | string) => {
    const client = new WebSocket(`${server.url.replace('http', 'ws')}/ingest?sentry_key=${server.public_key}`)
    t.after(() => client.terminate())
    await once(client, 'open')
    const answer = once(client, 'message')
    client.send(frame)
    return String((await answer)[0])
  }
  const envelope = (event: Json) => `{"event_id":"${newId()}"}\n{"type":"event"}\n${JSON.stringify(event)}\n`
  return [
    (event) => post(`/api/${server.project_id}/envelope/`, envelope(event)),
    (event) => post(`/api/${server.project_id}/store/`, JSON.stringify(event)),
    (event) => post('/api/v1/events', JSON.stringify(event)),
    (event) => post('/api/v1/events/bulk', JSON.stringify([event])),
    (event) => socket(JSON.stringify(event)),
    (event) => socket(Buffer.from(envelope(event))),
  ]
}

/** Every row of every table, as text. */
async function dump({ database }: TestApp): Promise<string> {
  const tables = await database.sql<{ name: string }>(
    "select c.oid::regclass::text as name from pg_class c where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace and not c.relispartition",
  )
  const rows = await Promise.all(
    tables.map(({ name }) => database.sql<{ row: string }>(`select t::text as row from ${name} t`)),
  )
  return rows
    .flat()
    .map(({ row }) => row)
    .join('\n')
}

function assertHushed(where: string, text: string): void {
  for (const secret of [mark, card]) {
    const at = text.indexOf(secret)
    assert.ok(at === -1, `${where} has ${text.slice(Math.max(0, at - 200), at + 40)}`)
  }
}

test('No secret of any event reaches the database, the log, an answer or the stream', async (t) => {
  const server = await startApp(t)
  const stream = await server.stream()
  const count = { n: 0 }
  const sent = captured.map((bytes) => {
    const event = plant(JSON.parse(bytes.toString()), count) as Json
    return { ...event, event_id: newId() } as Json
  })
  for (const event of captured.slice(0, 6)) {
    const { user: _, message: __, ...rest } = JSON.parse(event.toString()) as Json
    sent.push({ ...withRequest(rest, count), event_id: newId() })
  }
  assert.ok(count.n > 10_000, `${count.n} secrets`)
  const ways = doors(t, server)
  for (const [index, event] of sent.entries()) {
    assertHushed('an answer', await ways[index % ways.length]!(event))
  }
  // What is refused is not told either.
  const refused = {
    message: `Bearer ${mark}`,
    extra: JSON.parse(`${'['.repeat(101)}${']'.repeat(101)}`),
    password: mark,
  }
  const answer = await fetch(`${server.url}/api/v1/events?sentry_key=${server.public_key}`, {
    method: 'POST',
    body: JSON.stringify(refused),
  })
  assert.equal(answer.status, 400)
  assertHushed('a refusal', await answer.text())

  const marker = await server.send({ message: 'the last one' })
  await stream.next('event', (message) => message.data.id === marker.id)
  await server.database.sql('select fold_issue_tags(id, 1000000) from projects')
  const stored = await dump(server)
  assertHushed('the database', stored)
  assertHushed('the log', JSON.stringify(server.log.lines))
  assertHushed('the stream', JSON.stringify(stream.received))

  const [{ events, filtered } = { events: 0, filtered: 0 }] = await server.database.sql<{
    events: number
    filtered: number
  }>(
    "select count(*)::int as events, count(*) filter (where payload::text like '%[Filtered]%')::int as filtered from events",
  )
  assert.equal(events, sent.length + 1)
  assert.equal(filtered, sent.length)
  assert.ok(stored.includes('Cannot read properties of null'), 'what is no secret is kept')
  assert.ok(stream.ofType('event').some((message) => message.data.title.includes('[Filtered]')))
})

test('What is scrubbed follows the settings of the project, also on sockets that are open', async (t) => {
  const server = await startApp(t)
  const client = new WebSocket(`${server.url.replace('http', 'ws')}/ingest?sentry_key=${server.public_key}`)
  t.after(() => client.terminate())
  await once(client, 'open')
  const extra = { password: 'open', vip: 'open', auth_kind: 'open' }

  async function storedOf(id: string): Promise<unknown> {
    const rows = await server.database.sql<{ payload: Json }>('select payload from events where id = $1', [id])
    return rows[0]?.payload.extra
  }
  async function bySocket(): Promise<unknown> {
    const answer = once(client, 'message')
    client.send(JSON.stringify({ message: 'a', extra }))
    return storedOf(JSON.parse(String((await answer)[0])).id)
  }
  const byHttp = async () => storedOf((await server.send({ message: 'a', extra })).id)
  const follows = (expected: Json) =>
    eventually(async () => {
      assert.deepEqual(await bySocket(), expected)
      assert.deepEqual(await byHttp(), expected)
    })

  await follows({ ...extra, password: '[Filtered]', auth_kind: '[Filtered]' })
  await server.database.sql(
    "update projects set sensitive_fields = '{VIP}', safe_fields = '{auth_kind}' where id = $1",
    [server.project_id],
  )
  await follows({ ...extra, password: '[Filtered]', vip: '[Filtered]' })
  await server.database.sql('update projects set scrub_defaults = false where id = $1', [server.project_id])
  await follows({ ...extra, vip: '[Filtered]' })
  await server.database.sql('update projects set scrub_data = false where id = $1', [server.project_id])
  await follows(extra)
  await assert.rejects(
    server.database.sql("update projects set sensitive_fields = '{a,NULL}'"),
    /projects_sensitive_fields_check/,
  )
  await assert.rejects(server.database.sql(`update projects set safe_fields = '{""}'`), /projects_safe_fields_check/)
})

test('The address of the client is kept where its SDK asks for it, and where the project keeps addresses', async (t) => {
  const server = await startApp(t)
  const browser = { message: 'a', platform: 'javascript' }
  const userOf = async (event: Json) => {
    const { id } = await server.send(event)
    const rows = await server.database.sql<{ user_key: string | null; ip: string | null }>(
      "select user_key, payload -> 'user' ->> 'ip_address' as ip from events where id = $1",
      [id],
    )
    return [rows[0]?.user_key, rows[0]?.ip]
  }
  const never = { sdk: { settings: { infer_ip: 'never' } } }
  assert.deepEqual(await userOf({ message: 'a', user: { ip_address: '{{auto}}' } }), ['ip:127.0.0.1', '127.0.0.1'])
  assert.deepEqual(await userOf(browser), ['ip:127.0.0.1', '127.0.0.1'])
  assert.deepEqual(await userOf({ ...browser, ...never, user: { id: 7, ip_address: '{{auto}}' } }), ['id:7', null])
  assert.deepEqual(await userOf({ message: 'a', platform: 'python' }), [null, null])
  await server.database.sql('update projects set scrub_ip_addresses = true')
  await eventually(async () => assert.deepEqual(await userOf(browser), [null, null]))
  assert.deepEqual(await userOf({ ...browser, user: { id: 7, ip_address: '203.0.113.9' } }), ['id:7', null])
})
