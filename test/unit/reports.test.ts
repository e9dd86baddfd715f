import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clientReportFrom, feedbackFrom, userReportFrom } from '../../server/ingest/reports.ts'

const bytes = (value: unknown) => Buffer.from(JSON.stringify(value))
const context = { received_at: 1_700_000_000_000, event_id: null }
const id = 'a'.repeat(32)

test('what an SDK discarded is summed by reason and category; others are counted as other', () => {
  const sums = clientReportFrom(
    bytes({
      timestamp: 'whenever',
      discarded_events: [
        { reason: 'before_send', category: 'error', quantity: 2 },
        { reason: 'before_send', category: 'error', quantity: 3 },
        { reason: 'before_send', category: 'transaction', quantity: 1 },
        { reason: 'of my own', category: 'error', quantity: 4 },
        { reason: 'another', category: 'error', quantity: 1 },
        { reason: 5, category: '__proto__', quantity: 1 },
        ...[0, -1, 1.5, 1e15, '3', null].map((quantity) => ({ reason: 'sample_rate', category: 'error', quantity })),
        null,
        'x',
        [],
      ],
    }),
  )
  assert.deepEqual(sums, [
    { reason: 'before_send', category: 'error', quantity: 5 },
    { reason: 'before_send', category: 'transaction', quantity: 1 },
    { reason: 'other', category: 'error', quantity: 5 },
    { reason: 'other', category: 'other', quantity: 1 },
  ])
  for (const other of [{}, [], null, { discarded_events: 5 }, { discarded_events: {} }]) {
    assert.deepEqual(clientReportFrom(bytes(other)), [])
  }
})

test('a user report names its event itself, or by its envelope, and has to say something', () => {
  const said = { name: 'Ada', email: 'ada@example.com', comments: ' It broke\u0000 ' }
  const report = userReportFrom(bytes({ ...said, event_id: id.toUpperCase() }), context)
  assert.equal(report?.event_id, id)
  assert.equal(report?.message, 'It broke')
  assert.equal(userReportFrom(bytes(said), { ...context, event_id: id })?.event_id, id)
  assert.equal(userReportFrom(bytes(said), context), null)
  for (const comments of ['', ' ', null, undefined, {}]) {
    assert.equal(userReportFrom(bytes({ ...said, event_id: id, comments }), context), null)
  }
})

test('the same report sent again is the same, and another one is another', () => {
  const of = (comments: string) => userReportFrom(bytes({ event_id: id, comments }), context)?.id
  assert.match(of('a') ?? '', /^[0-9a-f]{32}$/)
  assert.equal(of('a'), of('a'))
  assert.notEqual(of('a'), of('b'))
})

test('feedback is what its context says, cut to what is kept', () => {
  const event = (feedback: unknown) => bytes({ event_id: id, type: 'feedback', contexts: { feedback } })
  const long = feedbackFrom(event({ message: `${'x'.repeat(4095)}💥`, name: 'n'.repeat(300), url: 5 }), context)
  assert.equal(long?.id, id)
  assert.equal(long.message, 'x'.repeat(4095))
  assert.equal(long.name?.length, 200)
  assert.deepEqual([long.event_id, long.email, long.url], [null, null, '5'])
  for (const nothing of [null, {}, [], 'x', { message: ' ' }, { message: {} }]) {
    assert.equal(feedbackFrom(event(nothing), context), null)
  }
  assert.equal(feedbackFrom(bytes({ contexts: [] }), context), null)
})
