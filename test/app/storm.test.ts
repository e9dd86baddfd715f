import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addProject, startApp, type TestApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'

/** So many events in as few commits as the door allows; resolves when all are committed. */
async function storm(server: TestApp, events: number, message = 'storm') {
  const body = JSON.stringify(Array.from({ length: events }, () => ({ message, level: 'error' })))
  const response = await fetch(`${server.url}/api/v1/events/bulk`, {
    method: 'POST',
    headers: { authorization: `Bearer ${server.public_key}` },
    body,
  })
  const { results } = (await response.json()) as { results: { status: string }[] }
  assert.ok(results.every((result) => result.status === 'accepted'))
}

test('In a storm a dashboard is shown samples and told how many, one that asks for all gets all, and issues are never sampled', async (t) => {
  const server = await startApp(t)
  const sampled = await server.stream({ sample: true })
  const whole = await server.stream({ sample: false })

  await storm(server, 1_000)
  const rate = await sampled.next('rate')
  assert.equal(rate.project_id, server.project_id)
  assert.equal(rate.seconds, 1)
  assert.ok(rate.shown < rate.events, `${rate.shown} of ${rate.events}`)

  await server.send({ message: 'after the storm' })
  await sampled.next('issue', (message) => message.issue?.title === 'after the storm')
  await whole.next('event', (message) => message.data.title === 'after the storm')
  assert.equal(whole.ofType('event').length, 1_001)
  assert.equal(whole.ofType('rate').length, 0)
  // What was not shown is told exactly.
  await eventually(() => {
    const hidden = sampled.ofType('rate').reduce((sum, { events, shown }) => sum + events - shown, 0)
    assert.equal(hidden, 1_001 - sampled.ofType('event').length)
  })
  assert.deepEqual(
    sampled.ofType('issue').map((message) => message.issue?.title),
    ['storm', 'after the storm'],
  )
})

test('A subscriber may change between samples and all', async (t) => {
  const server = await startApp(t)
  const client = await server.stream({ sample: true })
  client.send({ type: 'subscribe', sample: false, ref: 'all' })
  await client.next('filters_updated', (message) => message.ref === 'all')
  await storm(server, 600)
  await server.send({ message: 'marker' })
  await client.next('event', (message) => message.data.title === 'marker')
  assert.equal(client.ofType('event').length, 601)
  client.send({ type: 'subscribe', sample: 'some', ref: 'wrong' })
  assert.equal((await client.next('error')).ref, 'wrong')
})

test('Fewer events than the limit are all shown to everybody', async (t) => {
  const server = await startApp(t)
  const client = await server.stream({ sample: true })
  await storm(server, 150)
  await server.send({ message: 'marker' })
  await client.next('event', (message) => message.data.title === 'marker')
  assert.equal(client.ofType('event').length, 151)
  assert.equal(client.ofType('rate').length, 0)
})

test('A project with a crowd waiting is told to slow down, while the events of another are stored', async (t) => {
  const server = await startApp(t, {
    contendedFor: 600_000,
    writer: { lockTimeout: 60_000, batchEvents: 5, crowdBatch: 5, crowdMost: 5 },
  })
  const other = await addProject(server, 'quiet')
  const post = (project_id: string, public_key: string, message: string) =>
    fetch(`${server.url}/api/${project_id}/envelope/?sentry_key=${public_key}`, {
      method: 'POST',
      body: `{}\n{"type":"event"}\n${JSON.stringify({ message })}\n`,
    })
  const issue = await server.send({ message: 'storm' })
  assert.equal((await post(other.project_id, other.public_key, 'quiet')).status, 200)
  // What the storm's events need is held by somebody, so that they wait as long as this test likes.
  const person = await server.database.connect('a person')
  await person.query('begin')
  await person.query('select from issue_stats where issue_id = $1 for update', [issue.issue_id])
  const refused: Headers[] = []
  const storm = Array.from({ length: 60 }, async () => {
    const answer = await post(server.project_id, server.public_key, 'storm')
    if (answer.status === 429) refused.push(answer.headers)
    return answer.status
  })
  // At most five in the one batch that may be under way, and five that wait for it.
  await eventually(() => assert.ok(refused.length >= 50))
  assert.equal((await post(other.project_id, other.public_key, 'quiet')).status, 200, 'and nothing of it waits')
  assert.equal(refused[0]!.get('retry-after'), '1')
  assert.equal(refused[0]!.get('x-sentry-rate-limits'), '1:error;default;security;attachment:project:quota')
  await person.query('rollback')
  const answers = await Promise.all(storm)
  const stored = answers.filter((status) => status === 200).length
  assert.equal(stored + refused.length, 60)
  const [row] = await server.database.sql<{ n: string }>("select count(*) as n from events where title = 'storm'")
  assert.equal(row!.n, String(stored + 1))
})
