// What comes beside events and is kept: client reports and feedback, from the door to the API.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp, type TestApp } from '../support/app.ts'
import { newId } from '../support/batch.ts'
import { eventually } from '../support/eventually.ts'

interface Sums {
  data: { reason: string; category: string; quantity: number; last_hour: string }[]
}
interface Said {
  data: { id: string; issue_id: string | null; event_id: string | null; message: string; name: string | null }[]
  next_cursor: string | null
}

async function sendItems(server: TestApp, ...items: [type: string, payload: unknown][]): Promise<number> {
  const body = items.map(([type, payload]) => `\n${JSON.stringify({ type })}\n${JSON.stringify(payload)}`).join('')
  const response = await fetch(`${server.url}/api/${server.project_id}/envelope/?sentry_key=${server.public_key}`, {
    method: 'POST',
    body: `{}${body}\n`,
  })
  await response.arrayBuffer()
  return response.status
}

const discarded = (reason: string, category: string, quantity: number): [string, unknown] => [
  'client_report',
  { discarded_events: [{ reason, category, quantity }] },
]
const said = (event_id: string, comments: string): [string, unknown] => ['user_report', { event_id, comments }]

test('What SDKs discarded is summed exactly, by reason and category, however it was sent', async (t) => {
  const server = await startApp(t)
  const sending: Promise<number>[] = []
  for (let n = 1; n <= 100; n++) {
    sending.push(sendItems(server, discarded('sample_rate', 'error', n), discarded('queue_overflow', 'span', 2)))
  }
  for (const status of await Promise.all(sending)) assert.equal(status, 200)
  const path = '/api/v1/projects/app/client-reports'
  const { body } = await server.api<Sums>('GET', path)
  assert.deepEqual(
    body.data.map(({ reason, category, quantity }) => [reason, category, quantity]),
    [
      ['sample_rate', 'error', 5050],
      ['queue_overflow', 'span', 200],
    ],
  )
  const later = new Date(Date.now() + 7_200_000).toISOString()
  assert.deepEqual((await server.api<Sums>('GET', `${path}?since=${later}`)).body.data, [])
  assert.deepEqual((await server.api<Sums>('GET', `${path}?until=2026-01-01T00:00:00Z`)).body.data, [])
  assert.equal((await server.api('GET', `${path}?since=yesterday`)).status, 400)
  assert.equal((await server.api('GET', '/api/v1/projects/nobody/client-reports')).status, 404)
})

test('Feedback finds its issue, whether it comes after its event or before', async (t) => {
  const server = await startApp(t)
  const [early, late] = [newId(), newId()]
  assert.equal(await sendItems(server, said(early, 'before')), 200)
  const { issue_id } = await server.send({ message: 'broken', event_id: late })
  const feedback = { contexts: { feedback: { message: 'after', name: 'Bob', associated_event_id: late } } }
  assert.equal(await sendItems(server, ['feedback', feedback]), 200)
  const of = async () => (await server.api<Said>('GET', `/api/v1/issues/${issue_id}/feedback`)).body.data
  assert.deepEqual(
    (await of()).map(({ message, name, event_id }) => [message, name, event_id]),
    [['after', 'Bob', late]],
  )
  await server.send({ message: 'broken', event_id: early })
  await eventually(async () =>
    assert.deepEqual(
      (await of()).map((one) => one.message),
      ['after', 'before'],
    ),
  )
})

test('Feedback of no event is the project’s, lists come page by page, and what is sent again is kept once', async (t) => {
  const server = await startApp(t)
  const messages = ['a', 'b', 'c', 'd', 'e']
  for (const message of [...messages, ...messages]) {
    const feedback = { event_id: message.repeat(32), contexts: { feedback: { message } } }
    assert.equal(await sendItems(server, ['feedback', feedback]), 200)
  }
  const seen: string[] = []
  let cursor: string | null = null
  do {
    const path: string = `/api/v1/projects/app/feedback?limit=2${cursor === null ? '' : `&cursor=${cursor}`}`
    const { body }: { body: Said } = await server.api<Said>('GET', path)
    for (const one of body.data) {
      assert.deepEqual([one.issue_id, one.event_id, one.id], [null, null, one.message.repeat(32)])
      seen.push(one.message)
    }
    cursor = body.next_cursor
  } while (cursor)
  assert.deepEqual(seen, messages.toReversed())
  assert.equal((await server.api('GET', '/api/v1/projects/app/feedback?cursor=1_1')).status, 400)
  assert.equal((await server.api('GET', '/api/v1/issues/99/feedback')).status, 404)
})

test('Feedback goes with its issue, and reports with their project', async (t) => {
  const server = await startApp(t)
  const event_id = newId()
  const { issue_id } = await server.send({ message: 'broken', event_id })
  await sendItems(server, said(event_id, 'about it'), discarded('before_send', 'error', 1))
  await server.api('POST', `/api/v1/issues/${issue_id}/delete`, {})
  const count = async (table: string) =>
    (await server.database.sql<{ n: number }>(`select count(*)::int as n from ${table}`))[0]!.n
  assert.deepEqual([await count('user_feedback'), await count('client_reports')], [0, 1])
  // Its event is gone for good: it stays the project's.
  await sendItems(server, said(event_id, 'too late'))
  const { body } = await server.api<Said>('GET', '/api/v1/projects/app/feedback')
  assert.deepEqual(
    body.data.map((one) => [one.message, one.issue_id]),
    [['too late', null]],
  )
  await server.database.sql('delete from projects')
  assert.deepEqual([await count('user_feedback'), await count('client_reports')], [0, 0])
})

test('An event and its report are each stored when the other is not', async (t) => {
  const server = await startApp(t)
  assert.equal(await sendItems(server, ['event', 'not an object'], discarded('before_send', 'error', 7)), 400)
  const { body } = await server.api<Sums>('GET', '/api/v1/projects/app/client-reports')
  assert.deepEqual(
    body.data.map((sum) => sum.quantity),
    [7],
  )
})

test('What is dropped is counted in /metrics, by type and by category, and names of a stranger make no metric', async (t) => {
  const server = await startApp(t)
  const items = [
    '{"type":"session"}\n{}',
    '{"type":"log","item_count":3}\n{}',
    '{"type":"attachment","length":3}\n\n\0x',
    '{"type":"made_up_by_me"}\n{}',
  ]
  const response = await fetch(`${server.url}/api/${server.project_id}/envelope/?sentry_key=${server.public_key}`, {
    method: 'POST',
    body: `{}\n${items.join('\n')}\n`,
  })
  assert.deepEqual([response.status, await response.json()], [200, {}])
  const metrics = await (await fetch(`${server.url}/metrics`)).text()
  for (const line of [
    'ingest_items_total{type="session"} 1',
    'ingest_items_total{type="other"} 1',
    'ingest_dropped_total{category="session"} 1',
    'ingest_dropped_total{category="log_item"} 3',
    'ingest_dropped_total{category="attachment"} 1',
    'ingest_dropped_total{category="other"} 1',
  ]) {
    assert.ok(metrics.includes(line), line)
  }
  assert.ok(!metrics.includes('made_up'))
})
