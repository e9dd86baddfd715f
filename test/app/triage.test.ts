import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IssueSummary } from '../../server/protocol.ts'
import { startApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'

interface Refusal {
  error: { code: string; message: string }
}
interface Hashes {
  data: { hash: string; algo: string; components: unknown; merged_from: string | null }[]
}

test('An issue can be archived for ever, until a time, for n more events and until it escalates, and comes back by itself', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'noise' })
  const client = await server.stream()
  const archive = (body: unknown) => server.api('POST', `/api/v1/issues/${issue_id}/archive`, body)
  const issue = async () => (await server.api<IssueSummary>('GET', `/api/v1/issues/${issue_id}`)).body

  assert.deepEqual(await archive({}), { status: 200, body: { status: 'ok', affected: 1 } })
  assert.equal((await client.next('issue')).action, 'archived')
  assert.deepEqual((await archive({ until: 'forever' })).body, { status: 'ok', affected: 0 })

  await archive({ until: 'escalating' })
  const told = await client.next('issue')
  assert.deepEqual([told.action, told.issue?.archived_until_escalating], ['archived', true])

  await archive({ until: { events: 2 } })
  assert.equal((await client.next('issue')).issue?.archived_until_event_count, 3)
  await server.send({ message: 'noise' })
  assert.equal((await issue()).status, 'archived')
  await server.send({ message: 'noise' })
  const back = await client.next('issue')
  assert.deepEqual([back.action, back.actor, back.issue?.status], ['escalated', 'ingest', 'unresolved'])

  const soon = new Date(Date.now() + 3_600_000).toISOString()
  await archive({ until: soon })
  assert.equal((await client.next('issue')).issue?.archived_until, soon)
  assert.equal((await issue()).archived_until, soon)
  // The hour is over.
  await server.database.sql('update issues set archived_until = now()')
  assert.equal((await client.next('issue')).action, 'archived')
  const woken = await client.next('issue')
  assert.deepEqual([woken.action, woken.actor], ['unresolved', 'timer'])
})

test('A way to archive that is wrong is refused with what would be right', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'noise' })
  const cases: [until: unknown, status: number, code: string][] = [
    ['tomorrow', 400, 'bad_request'],
    ['2030-01-31', 400, 'bad_request'],
    [{ events: 0 }, 400, 'bad_request'],
    [{ events: 1.5 }, 400, 'bad_request'],
    [{ events: 1, users: 1 }, 400, 'bad_request'],
    [null, 400, 'bad_request'],
    ['2001-01-31T12:00:00Z', 422, 'unprocessable'],
  ]
  for (const [until, status, code] of cases) {
    const answer = await server.api<Refusal>('POST', `/api/v1/issues/${issue_id}/archive`, { until })
    assert.deepEqual([answer.status, answer.body.error.code], [status, code], JSON.stringify(until))
  }
})

test('Issues are merged and taken apart again, and dashboards see it at once', async (t) => {
  const server = await startApp(t)
  const a = (await server.send({ message: 'one' })).issue_id
  const b = (await server.send({ message: 'two' })).issue_id
  await server.send({ message: 'two' })
  const client = await server.stream()
  const merged = await server.api('POST', `/api/v1/issues/${a}/merge`, { issue_ids: [b] })
  assert.deepEqual(merged, { status: 200, body: { status: 'ok', affected: 1 } })
  const gone = await client.next('issue')
  assert.deepEqual([gone.action, gone.issue_id, gone.issue, gone.actor], ['merged', b, null, 'token:first start'])
  const count = await client.next('issue_count')
  assert.equal(count.count, 1)
  const grown = await client.next('issue')
  assert.deepEqual([grown.action, grown.issue_id, grown.issue?.event_count], ['updated', a, 3])
  assert.equal((await server.api('GET', `/api/v1/issues/${b}`)).status, 404)
  assert.equal((await server.send({ message: 'two' })).issue_id, a)

  const { body } = await server.api<Hashes>('GET', `/api/v1/issues/${a}/hashes`)
  assert.deepEqual(
    body.data.map((one) => one.merged_from),
    [null, b],
  )
  const { hash } = body.data[1]!
  const apart = await server.api('POST', `/api/v1/issues/${a}/unmerge`, { hashes: [hash] })
  assert.deepEqual(apart, { status: 200, body: { status: 'ok', affected: 1, issue_id: b } })
  const restored = await client.next('issue')
  assert.deepEqual([restored.action, restored.issue_id, restored.issue?.event_count], ['created', b, 3])
  await eventually(async () =>
    assert.equal((await server.api<IssueSummary>('GET', `/api/v1/issues/${b}`)).body.event_count, 3),
  )

  await server.api('POST', `/api/v1/issues/${a}/merge`, { issue_ids: [b] })
  const whole = await server.api('POST', `/api/v1/issues/${a}/unmerge`, { issue_id: b })
  assert.deepEqual(whole.body, { status: 'ok', affected: 1, issue_id: b })
})

test('A merge that cannot be is refused with a sentence', async (t) => {
  const server = await startApp(t)
  const a = (await server.send({ message: 'one' })).issue_id
  const b = (await server.send({ message: 'two' })).issue_id
  const { body } = await server.api<Hashes>('GET', `/api/v1/issues/${a}/hashes`)
  const { hash } = body.data[0]!
  const cases: [path: string, body: unknown, status: number, code: string][] = [
    ['merge', { issue_ids: [] }, 400, 'bad_request'],
    ['merge', { issue_ids: ['x'] }, 400, 'bad_request'],
    ['merge', {}, 400, 'bad_request'],
    ['merge', { issue_ids: [a] }, 422, 'unprocessable'],
    ['merge', { issue_ids: ['99999'] }, 404, 'not_found'],
    ['unmerge', { hashes: [] }, 400, 'bad_request'],
    ['unmerge', { hashes: ['zz'] }, 400, 'bad_request'],
    ['unmerge', { hashes: [hash] }, 422, 'unprocessable'],
    ['unmerge', { hashes: ['0'.repeat(32)] }, 404, 'not_found'],
    ['unmerge', { issue_id: b }, 404, 'not_found'],
  ]
  for (const [path, sent, status, code] of cases) {
    const answer = await server.api<Refusal>('POST', `/api/v1/issues/${a}/${path}`, sent)
    assert.deepEqual([answer.status, answer.body.error.code], [status, code], `${path} ${JSON.stringify(sent)}`)
    assert.ok(answer.body.error.message.length > 10)
  }
  const person = await server.database.connect()
  await person.query('begin')
  await person.query("update issues set status = 'resolved' where id = $1", [b])
  const held = await server.api<Refusal>('POST', `/api/v1/issues/${a}/merge`, { issue_ids: [b] })
  assert.deepEqual([held.status, held.body.error.code], [409, 'conflict'])
  await person.query('rollback')
})
