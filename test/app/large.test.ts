// The largest things that may come, through the doors and on the stream.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'
import { newId } from '../support/batch.ts'

const mebibyte = 1024 * 1024

/** An event of exactly so many bytes, in a field that no rule shortens. */
function eventOfSize(bytes: number): string {
  const frame = JSON.stringify({ message: 'large', unheard_of: '' })
  return JSON.stringify({ message: 'large', unheard_of: 'x'.repeat(bytes - frame.length) })
}

test('An event with a title of 20,000 characters is stored and arrives with the beginning of it', async (t) => {
  const server = await startApp(t)
  const client = await server.stream()
  const random = '\u0001€"🧺x'.repeat(4_000)
  const { issue_id, id } = await server.send({ exception: { values: [{ type: 'T'.repeat(20_000), value: random }] } })
  const created = await client.next('issue')
  assert.deepEqual([created.action, created.issue_id], ['created', issue_id])
  assert.match(created.issue!.title, /^T{40,200}$/)
  const event = await client.next('event')
  assert.equal(event.data.id, id)
  assert.match(event.data.title, /^T{40,200}$/)
  const [row] = await server.database.sql<{ type: string; value: string }>(
    `select payload -> 'exception' -> 'values' -> 0 ->> 'type' as type, payload -> 'exception' -> 'values' -> 0 ->> 'value' as value
       from events`,
  )
  assert.equal(row!.type, 'T'.repeat(256))
  assert.ok(row!.value.length > 8_000 && row!.value.length <= 8_192)
  assert.ok(random.startsWith(row!.value.slice(0, 8_000)))
})

test('An event of 1 MiB is stored whole through every door, and one byte more is refused', async (t) => {
  const server = await startApp(t)
  const client = await server.stream()
  const key = server.public_key
  const post = async (path: string, body: string) => {
    const response = await fetch(`${server.url}${path}?sentry_key=${key}`, { method: 'POST', body })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const envelope = (event: string) => `{"event_id":"${newId()}"}\n{"type":"event","length":${event.length}}\n${event}\n`
  const project = server.project_id
  const doors: [name: string, send: (event: string) => Promise<{ status: number; body: Record<string, unknown> }>][] = [
    ['events', (event) => post('/api/v1/events', event)],
    ['bulk', (event) => post('/api/v1/events/bulk', `[${event},{"message":"small"}]`)],
    ['envelope', (event) => post(`/api/${project}/envelope/`, envelope(event))],
    ['store', (event) => post(`/api/${project}/store/`, event)],
  ]
  for (const [name, send] of doors) {
    assert.ok([200, 202].includes((await send(eventOfSize(mebibyte))).status), name)
    assert.equal((await client.next('event', (event) => event.data.title === 'large')).data.message, 'large', name)
    const refused = await send(eventOfSize(mebibyte + 1))
    if (name !== 'bulk') assert.equal(refused.status, 413, name)
    else {
      const results = refused.body.results as Record<string, unknown>[]
      assert.deepEqual(
        [results[0]!.status, results[0]!.code, results[1]!.status],
        ['rejected', 'too_large', 'accepted'],
      )
    }
  }
  const sizes = await server.database.sql(
    "select octet_length(payload::text) as size from events where title = 'large'",
  )
  assert.deepEqual(
    sizes.map((row) => row.size),
    doors.map(() => mebibyte),
  )
})

test('A bulk of 5 MiB is stored whole', async (t) => {
  const server = await startApp(t)
  const element = eventOfSize((5 * mebibyte) / 8 - 2)
  const response = await fetch(`${server.url}/api/v1/events/bulk?sentry_key=${server.public_key}`, {
    method: 'POST',
    body: `[${Array(8).fill(element).join(',')}]`,
  })
  assert.equal(response.status, 202)
  const [row] = await server.database.sql<{ n: string; bytes: string }>(
    'select count(*) as n, sum(octet_length(payload::text)) as bytes from events',
  )
  assert.deepEqual([row!.n, row!.bytes], ['8', String(8 * element.length)])
})

test('One statement that changes 5,000 issues is told as one resync with the right count', async (t) => {
  const server = await startApp(t)
  await server.database.sql(
    `insert into issues (project_id, short_id, title, level) select $1, 'HAND-' || n, 'issue ' || n, 'error' from generate_series(1, 5001) n`,
    [server.project_id],
  )
  const client = await server.stream()
  const cursor = client.cursor()
  await server.database.sql("update issues set status = 'resolved' where short_id <> 'HAND-1'")
  const resync = await client.next('resync')
  assert.equal(resync.reason, 'bulk_change')
  assert.equal((await client.next('issue_count')).count, 1)
  await server.send({ message: 'marker' })
  await client.next('event')
  assert.deepEqual(
    client.ofType('issue').map((message) => message.action),
    ['created'],
    'the 5,000 are not told one by one',
  )
  const { body } = await server.api<{ data: { status: string }[] }>(
    'GET',
    `/api/v1/projects/app/issues?status=resolved&limit=100`,
  )
  assert.equal(body.data.length, 100)
  // Who was away meanwhile gets all of them, or is told as well.
  const late = await server.stream({ since: cursor })
  await late.next('event', (event) => event.data.title === 'marker')
  const replayed = late.ofType('issue').filter((message) => message.action === 'resolved')
  assert.equal(new Set(replayed.map((message) => message.issue_id)).size, 5_000)
})

test('Many large events at once are all stored, and a subscriber hears of each', async (t) => {
  const server = await startApp(t)
  const client = await server.stream()
  const body = eventOfSize(mebibyte - 100)
  const ids = await Promise.all(
    Array.from({ length: 24 }, async () => {
      const event_id = newId()
      const response = await fetch(`${server.url}/api/v1/events?sentry_key=${server.public_key}`, {
        method: 'POST',
        body: `{"event_id":"${event_id}",${body.slice(1)}`,
      })
      assert.equal(response.status, 202)
      return event_id
    }),
  )
  const heard = new Set<string>()
  while (heard.size < ids.length) heard.add((await client.next('event')).data.id)
  assert.deepEqual([...heard].sort(), ids.sort())
})
