// Somebody's open transaction, an event that PostgreSQL refuses, a queue that is full: what they cost, and whom.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { addProject, startApp, type TestApp } from '../support/app.ts'
import { newId } from '../support/batch.ts'
import { eventually } from '../support/eventually.ts'

interface Ready {
  status: string
  blocked: {
    project_id: string
    pid: number | null
    query: string | null
    application: string | null
    for_ms: number
  }[]
  backlog: { queued: number }
}

async function readiness(server: TestApp): Promise<{ status: number; body: Ready }> {
  const response = await fetch(`${server.url}/readyz`)
  return { status: response.status, body: (await response.json()) as Ready }
}

interface Sent {
  status: number
  retryAfter: string | null
  body: { status?: string; id?: string; issue_id?: string; error?: { code: string; message: string } }
}

async function send(server: TestApp, key: string, event: Record<string, unknown>): Promise<Sent> {
  const response = await fetch(`${server.url}/api/v1/events?sentry_key=${key}`, {
    method: 'POST',
    body: JSON.stringify(event),
  })
  return {
    status: response.status,
    retryAfter: response.headers.get('retry-after'),
    body: (await response.json()) as Sent['body'],
  }
}

/** A person's transaction, left open: `update` and then a cup of tea. */
async function openTransaction(server: TestApp, text: string, values: unknown[] = []) {
  const person = await server.database.connect('a person')
  const { rows } = await person.query<{ pid: number }>('select pg_backend_pid() as pid')
  await person.query('begin')
  await person.query(text, values)
  return { pid: rows[0]!.pid, query: (sql: string) => person.query(sql) }
}

const isDone = (promise: Promise<unknown>) => {
  let done = false
  promise.then(
    () => {
      done = true
    },
    () => {
      done = true
    },
  )
  return () => done
}

async function start(t: TestContext, limits: Parameters<typeof startApp>[1] = {}) {
  const server = await startApp(t, { writer: { lockTimeout: 200 }, ...limits })
  return { server, other: await addProject(server, 'other') }
}

test('A person’s open transaction on an issue holds up only new issues of its project, and /readyz names the person', async (t) => {
  const { server, other } = await start(t)
  const known = await server.send({ message: 'known' })
  const resolved = await server.send({ message: 'another' })
  const client = await server.stream()
  const person = await openTransaction(server, "update issues set status = 'resolved' where id = $1", [
    resolved.issue_id,
  ])

  const waiting = ['first', 'second', 'first'].map((title) =>
    send(server, server.public_key, { message: `new ${title}` }),
  )
  const done = waiting.map(isDone)
  // Long enough that the lock has timed out: the project is held apart, and everything else is as always.
  await eventually(async () => {
    const { body } = await readiness(server)
    assert.equal(body.blocked[0]?.pid, person.pid, 'the blocker is named')
  })
  const { status, body } = await readiness(server)
  assert.deepEqual([status, body.status], [200, 'ready'], 'the service can do its work')
  const [blocker] = body.blocked
  assert.equal(blocker!.project_id, server.project_id)
  assert.match(blocker!.query ?? '', /^update issues set status = 'resolved'/)
  assert.equal(blocker!.application, 'a person')
  assert.ok(blocker!.for_ms > 0)
  const line = server.log.lines.find((one) => one.name === 'write.blocked')
  assert.deepEqual([line?.pid, line?.level], [person.pid, 'warn'])

  for (let n = 0; n < 5; n++) {
    assert.equal((await send(server, other.public_key, { message: `of another project ${n}` })).status, 202)
    const again = await send(server, server.public_key, { message: 'known' })
    assert.deepEqual([again.status, again.body.issue_id], [202, known.issue_id], 'events of issues that exist go on')
  }
  assert.deepEqual(
    done.map((is) => is()),
    [false, false, false],
    'nothing was promised that is not stored',
  )

  await person.query('commit')
  const answers = await Promise.all(waiting)
  assert.deepEqual(
    answers.map((answer) => answer.status),
    [202, 202, 202],
  )
  assert.equal(answers[0]!.body.issue_id, answers[2]!.body.issue_id)
  assert.notEqual(answers[0]!.body.issue_id, answers[1]!.body.issue_id)
  await eventually(async () => assert.deepEqual((await readiness(server)).body.blocked, []))
  assert.ok(server.log.lines.some((one) => one.name === 'write.unblocked'))
  const told = [await client.next('issue'), await client.next('issue'), await client.next('issue')]
  assert.deepEqual(
    told.map((message) => message.action),
    ['resolved', 'created', 'created'],
  )
  const [count] = await server.database.sql<{ n: string }>('select count(*) as n from events')
  assert.equal(count!.n, '15')
})

test('Two people who hold up two projects are both named, and each project goes on with its own commit', async (t) => {
  const { server, other } = await start(t)
  const third = await addProject(server, 'third')
  const mine = await server.send({ message: 'mine' })
  const theirs = await send(server, other.public_key, { message: 'theirs' })
  const one = await openTransaction(server, "update issues set status = 'archived' where id = $1", [mine.issue_id])
  const two = await openTransaction(server, "update issues set status = 'archived' where id = $1", [
    theirs.body.issue_id,
  ])
  const waitingOne = send(server, server.public_key, { message: 'new' })
  const waitingTwo = send(server, other.public_key, { message: 'new' })
  await eventually(async () => {
    const { body } = await readiness(server)
    assert.deepEqual(body.blocked.map((blocker) => blocker.pid).sort(), [one.pid, two.pid].sort())
  })
  assert.equal((await send(server, third.public_key, { message: 'free' })).status, 202)
  const oneIsDone = isDone(waitingOne)
  await two.query('rollback')
  assert.equal((await waitingTwo).status, 202)
  assert.equal(oneIsDone(), false)
  await one.query('rollback')
  assert.equal((await waitingOne).status, 202)
})

test('A resolved issue that somebody holds does not stop other events, and regresses when it is let go', async (t) => {
  const { server, other } = await start(t)
  const issue = await server.send({ message: 'fixed' })
  await server.send({ message: 'known' })
  await server.database.sql("update issues set status = 'resolved' where id = $1", [issue.issue_id])
  const person = await openTransaction(server, "update issues set assigned_to = 'ada' where id = $1", [issue.issue_id])
  const waiting = send(server, server.public_key, { message: 'fixed' })
  const done = isDone(waiting)
  await eventually(async () => assert.equal((await readiness(server)).body.blocked[0]?.pid, person.pid))
  for (const key of [server.public_key, other.public_key, server.public_key]) {
    assert.equal((await send(server, key, { message: 'known' })).status, 202)
  }
  assert.equal(done(), false)
  await person.query('commit')
  assert.equal((await waiting).body.issue_id, issue.issue_id)
  const [row] = await server.database.sql('select status, assigned_to from issues where id = $1', [issue.issue_id])
  assert.deepEqual(row, { status: 'unresolved', assigned_to: 'ada' })
})

test('What a lock holds up too long is refused with a time to come back, and comes in when the lock is gone', async (t) => {
  const { server } = await start(t, { writer: { lockTimeout: 100, blockedGrace: 600 } })
  const issue = await server.send({ message: 'known' })
  const person = await openTransaction(server, "update issues set status = 'resolved' where id = $1", [issue.issue_id])
  const event = { message: 'new', event_id: newId() }
  const refused = await send(server, server.public_key, event)
  assert.deepEqual([refused.status, refused.body.error?.code], [503, 'unavailable'])
  assert.match(refused.retryAfter ?? '', /^[1-9]\d*$/)
  await person.query('commit')
  await eventually(async () => assert.equal((await send(server, server.public_key, event)).status, 202))
  const [count] = await server.database.sql<{ n: string }>("select count(*) as n from events where title = 'new'")
  assert.equal(count!.n, '1')
})

test('An event that PostgreSQL refuses is refused alone, with the reason, and costs its neighbours nothing', async (t) => {
  const { server, other } = await start(t)
  await server.database.sql("alter table events add constraint no_poison check (title not like 'poison%')")
  const client = await server.stream()
  const bulk = Array.from({ length: 300 }, (_, n) => ({
    message: [7, 150, 299].includes(n) ? `poison ${n}` : `fine ${n % 20}`,
  }))
  const [response, elsewhere] = await Promise.all([
    fetch(`${server.url}/api/v1/events/bulk?sentry_key=${server.public_key}`, {
      method: 'POST',
      body: JSON.stringify(bulk),
    }),
    send(server, other.public_key, { message: 'elsewhere' }),
  ])
  assert.equal(elsewhere.status, 202)
  const { results } = (await response.json()) as { results: { status: string; code?: string; error?: string }[] }
  const rejected = results.flatMap((result, index) => (result.status === 'rejected' ? [index] : []))
  assert.deepEqual(rejected, [7, 150, 299])
  for (const index of rejected) {
    assert.equal(results[index]!.code, 'unprocessable')
    assert.match(results[index]!.error ?? '', /no_poison/)
  }
  assert.equal((await send(server, server.public_key, { message: 'poison alone' })).status, 422)
  const [count] = await server.database.sql<{ n: string }>('select count(*) as n from events where project_id = $1', [
    server.project_id,
  ])
  assert.equal(count!.n, '297')
  const seen = new Set<string>()
  while (seen.size < 297) seen.add((await client.next('event')).data.id)
  assert.ok(client.ofType('event').every((event) => !event.data.title.startsWith('poison')))
  const poisoned = await server.database.sql("select from issues where title like 'poison%'")
  assert.deepEqual(poisoned, [], 'nothing is left of them')
})

test('A full queue refuses at once and says when to come back; what was taken is stored', async (t) => {
  const queueEvents = 40
  const batchEvents = 5
  const { server, other } = await start(t, {
    writer: { lockTimeout: 100, queueEvents, batchEvents, projectShare: 0.5, blockedGrace: 60_000 },
  })
  const issue = await server.send({ message: 'known' })
  const person = await openTransaction(server, "update issues set status = 'resolved' where id = $1", [issue.issue_id])
  const refused: Sent[] = []
  const events = Array.from({ length: 60 }, async (_, n) => {
    const answer = await send(server, server.public_key, { message: 'new', fingerprint: [`${n}`] })
    if (answer.status === 429) refused.push(answer)
    return answer
  })
  // A project may fill half of the queue; what is being tried stands outside of it.
  const most = queueEvents / 2 + 3 * batchEvents
  await eventually(() => assert.equal(refused.length >= 60 - most, true))
  for (const answer of refused) assert.deepEqual([answer.body.error?.code, answer.retryAfter], ['rate_limited', '1'])
  const told: Headers[] = []
  const bySdk = Array.from({ length: most + 1 }, async () => {
    const url = `${server.url}/api/${server.project_id}/store/?sentry_key=${server.public_key}`
    const response = await fetch(url, { method: 'POST', body: '{"message":"by an SDK"}' })
    if (response.status === 429) told.push(response.headers)
    return response.status
  })
  await eventually(() => assert.equal(told.length > 0, true))
  assert.equal(told[0]!.get('retry-after'), '1')
  assert.match(told[0]!.get('x-sentry-rate-limits') ?? '', /^1:.*error/)
  const elsewhere = await send(server, other.public_key, { message: 'of another project' })
  assert.equal(elsewhere.status, 202, 'each project has its own share')
  const blocked = (await readiness(server)).body.blocked
  assert.deepEqual(
    blocked.map((one) => one.project_id),
    [server.project_id],
    'all of this happened while the lock was held',
  )
  await person.query('rollback')
  await Promise.all(bySdk)
  const answers = await Promise.all(events)
  const stored = answers.filter((answer) => answer.status === 202)
  assert.equal(stored.length + refused.length, 60)
  assert.ok(stored.length >= queueEvents / 2)
  const ids = await server.database.sql<{ id: string }>(
    "select replace(id::text, '-', '') as id from events where title = 'new'",
  )
  assert.deepEqual(ids.map((row) => row.id).sort(), stored.map((answer) => answer.body.id!).sort())
})
