import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IssueSummary } from '../../server/protocol.ts'
import { startApp } from '../support/app.ts'

interface Page {
  data: IssueSummary[]
  next_cursor: string | null
}
interface Refusal {
  error: { code: string; message: string; details?: { path: string }[] }
}

test('Issues are listed page by page, the most recently seen first, each once', async (t) => {
  const server = await startApp(t)
  const messages = ['a', 'b', 'c', 'd', 'e'].map((letter) => `issue ${letter}`)
  for (const message of messages) await server.send({ message })
  await server.send({ message: 'issue a' })
  const seen: string[] = []
  let cursor: string | null = null
  do {
    const at: string = cursor ? `&cursor=${cursor}` : ''
    const { body }: { body: Page } = await server.api<Page>('GET', `/api/v1/projects/app/issues?limit=2${at}`)
    seen.push(...body.data.map((issue) => issue.title))
    cursor = body.next_cursor
  } while (cursor)
  assert.deepEqual(seen, ['issue a', 'issue e', 'issue d', 'issue c', 'issue b'])
})

test('A list can be narrowed by status and level, and a project named by id or slug', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'one', level: 'error' })
  await server.send({ message: 'two', level: 'warning' })
  await server.api('POST', `/api/v1/issues/${issue_id}/resolve`, {})
  const titles = async (path: string) => (await server.api<Page>('GET', path)).body.data.map((issue) => issue.title)
  assert.deepEqual(await titles('/api/v1/projects/app/issues?status=resolved'), ['one'])
  assert.deepEqual(await titles(`/api/v1/projects/${server.project_id}/issues?level=warning`), ['two'])
})

test('Each action changes the issue, is told live with the token as actor, and says how many it changed', async (t) => {
  const server = await startApp(t)
  const client = await server.stream()
  const { issue_id } = await server.send({ message: 'acted on' })
  await client.next('issue')
  const steps = [
    ['resolve', {}, 'resolved'],
    ['unresolve', {}, 'unresolved'],
    ['archive', {}, 'archived'],
    ['assign', { assigned_to: 'alice@example.com' }, 'assigned'],
    ['assign', { assigned_to: null }, 'unassigned'],
    ['discard', {}, 'discarded'],
    ['delete', {}, 'deleted'],
  ] as const
  for (const [name, body, action] of steps) {
    const answer = await server.api('POST', `/api/v1/issues/${issue_id}/${name}`, body)
    assert.deepEqual(answer, { status: 200, body: { status: 'ok', affected: 1 } })
    const told = await client.next('issue')
    assert.deepEqual([told.action, told.issue_id, told.actor], [action, issue_id, 'token:first start'])
    if (action === 'assigned') assert.equal(told.issue?.assigned_to, 'alice@example.com')
    if (action === 'deleted') assert.equal(told.issue, null)
  }
  assert.equal((await server.api('GET', `/api/v1/issues/${issue_id}`)).status, 404)
})

test('An action that changes nothing says so and is not told', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'still' })
  const client = await server.stream()
  const { body } = await server.api('POST', `/api/v1/issues/${issue_id}/unresolve`, {})
  assert.deepEqual(body, { status: 'ok', affected: 0 })
  await server.api('POST', `/api/v1/issues/${issue_id}/resolve`, {})
  assert.equal((await client.next('issue')).action, 'resolved')
})

test('Requests that are wrong are answered with a code and what to do', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'x' })
  const cases: [method: string, path: string, body: unknown, status: number, code: string][] = [
    ['GET', '/api/v1/projects/app/issues?limit=0', undefined, 400, 'bad_request'],
    ['GET', '/api/v1/projects/app/issues?limit=101', undefined, 400, 'bad_request'],
    ['GET', '/api/v1/projects/app/issues?status=open', undefined, 400, 'bad_request'],
    ['GET', '/api/v1/projects/app/issues?cursor=other', undefined, 400, 'bad_request'],
    ['GET', '/api/v1/projects/app/issues?unheard=of', undefined, 400, 'bad_request'],
    ['GET', '/api/v1/projects/none/issues', undefined, 404, 'not_found'],
    ['GET', '/api/v1/issues/9999', undefined, 404, 'not_found'],
    ['GET', '/api/v1/issues/one', undefined, 404, 'not_found'],
    ['POST', `/api/v1/issues/${issue_id}/assign`, {}, 400, 'bad_request'],
    ['POST', `/api/v1/issues/${issue_id}/assign`, { assigned_to: '' }, 400, 'bad_request'],
    ['POST', `/api/v1/issues/${issue_id}/resolve`, { status: 'archived' }, 400, 'bad_request'],
    ['POST', `/api/v1/issues/${issue_id}/explode`, {}, 404, 'not_found'],
    ['GET', `/api/v1/issues/${issue_id}/resolve`, undefined, 405, 'method_not_allowed'],
  ]
  for (const [method, path, body, status, code] of cases) {
    const answer = await server.api<Refusal>(method, path, body)
    assert.deepEqual([answer.status, answer.body.error.code], [status, code], `${method} ${path}`)
    assert.ok(answer.body.error.message.length > 10, path)
  }
})

test('An issue that an open transaction holds is answered as a conflict, and can be changed when it has ended', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'held' })
  const person = await server.database.connect()
  await person.query('begin')
  await person.query("update issues set status = 'archived' where id = $1", [issue_id])
  const held = await server.api<Refusal>('POST', `/api/v1/issues/${issue_id}/resolve`, {})
  assert.deepEqual([held.status, held.body.error.code], [409, 'conflict'])
  await person.query('rollback')
  assert.equal((await server.api('POST', `/api/v1/issues/${issue_id}/resolve`, {})).status, 200)
})

test('The page, health, readiness and metrics are served', async (t) => {
  const server = await startApp(t)
  await server.send({ message: 'counted' })
  const page = await fetch(`${server.url}/`)
  assert.equal(page.status, 200)
  assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'/)
  assert.match(await page.text(), /<script[^>]+src="app\.js"/)
  const again = await fetch(`${server.url}/app.js`, {
    headers: { 'if-none-match': (await fetch(`${server.url}/app.js`)).headers.get('etag') ?? '' },
  })
  assert.equal(again.status, 304)
  assert.deepEqual(await (await fetch(`${server.url}/healthz`)).json(), { status: 'ok' })
  const ready = (await (await fetch(`${server.url}/readyz`)).json()) as { status: string; listener: { relay: string } }
  assert.deepEqual([ready.status, ready.listener.relay], ['ready', 'live'])
  const metrics = await (await fetch(`${server.url}/metrics`)).text()
  assert.match(metrics, /^ingest_events_total\{result="accepted"\} 1$/m)
  assert.match(metrics, /^listener_connected 1$/m)
})

test('An issue that was made by hand with the next number does not stand in the way of new ones', async (t) => {
  const server = await startApp(t)
  await server.database.sql(
    "insert into issues (project_id, short_id, title, level) values (1, 'APP-1', 'by hand', 'error')",
  )
  const { issue_id } = await server.send({ message: 'by an SDK' })
  const { body } = await server.api<IssueSummary>('GET', `/api/v1/issues/${issue_id}`)
  assert.equal(body.short_id, 'APP-2')
})
