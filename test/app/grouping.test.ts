import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { GroupingOfEvent, HashPage } from '../../server/read/grouping.ts'
import { startApp } from '../support/app.ts'

const hashOf = (components: unknown) =>
  createHash('sha256').update(JSON.stringify(components)).digest('hex').slice(0, 32)

test('An event tells why it belongs to its issue, and an issue what makes events belong to it', async (t) => {
  const server = await startApp(t)
  const { id, issue_id } = await server.send({ message: 'user 42 not found' })
  const again = await server.send({ message: 'user 77 not found' })
  assert.equal(again.issue_id, issue_id)
  const components = ['msg', 'user <num> not found']
  const expected = {
    hash: hashOf(components),
    issue_id,
    algo: 'g1',
    components,
    explanation: 'Grouped by the message "user <num> not found".',
    merged_from: null,
  }
  for (const event of [id, again.id.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')]) {
    const { status, body } = await server.api<GroupingOfEvent>('GET', `/api/v1/projects/app/events/${event}/grouping`)
    assert.equal(status, 200)
    const { created_at, ...hash } = body.hash!
    assert.deepEqual({ ...body, hash }, { event_id: event.replaceAll('-', ''), issue_id, hash: expected })
    assert.ok(Date.parse(created_at) > 0)
  }
  const { body } = await server.api<HashPage>('GET', `/api/v1/issues/${issue_id}/hashes`)
  assert.deepEqual(
    body.data.map(({ created_at, ...hash }) => hash),
    [expected],
  )
  assert.equal(body.next_cursor, null)
})

test('An SDK that changes its mind about what is in the app finds the old issue, which is known by both', async (t) => {
  const server = await startApp(t)
  const thrown = (in_app: boolean, more: object[] = []) => ({
    exception: [
      {
        type: 'PaymentError',
        value: 'declined',
        stacktrace: {
          frames: [...more, { module: 'flask', function: 'run', in_app }, { module: 'shop', function: 'pay' }],
        },
      },
    ],
  })
  const { issue_id } = await server.send(thrown(false))
  assert.equal((await server.send(thrown(true))).issue_id, issue_id)
  // Another version of the library: its frames are others, those of the app are not.
  const upgraded = thrown(false, [{ module: 'werkzeug', function: 'serve', in_app: false }])
  assert.equal((await server.send(upgraded)).issue_id, issue_id)
  const { body } = await server.api<HashPage>('GET', `/api/v1/issues/${issue_id}/hashes`)
  assert.deepEqual(body.data.map(({ explanation }) => explanation).sort(), [
    'Grouped by the type PaymentError and the stack of 2 frames, from run in flask to pay in shop.',
    'Grouped by the type PaymentError and the stack of 3 frames, from serve in werkzeug to pay in shop.',
    'Grouped by the type PaymentError and the stack of one frame, pay in shop.',
  ])
})

test('Hashes come page by page; what was made by hand is said not to be known', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'first' })
  const others = Array.from({ length: 4 }, (_, n) => hashOf(n))
  await server.database.sql(
    'insert into issue_hashes (project_id, hash, issue_id) select $1, h::uuid, $2 from unnest($3::text[]) as h',
    [server.project_id, issue_id, others],
  )
  const seen: string[] = []
  let cursor: string | null = null
  do {
    const at: string = cursor ? `&cursor=${cursor}` : ''
    const { body }: { body: HashPage } = await server.api<HashPage>(
      'GET',
      `/api/v1/issues/${issue_id}/hashes?limit=2${at}`,
    )
    seen.push(...body.data.map(({ hash }) => hash))
    for (const { hash, explanation } of body.data)
      if (others.includes(hash)) assert.equal(explanation, 'What this hash is of was not kept.')
    cursor = body.next_cursor
  } while (cursor)
  assert.deepEqual(seen, [hashOf(['msg', 'first']), ...others.sort()])
  const bad = await server.api('GET', `/api/v1/issues/${issue_id}/hashes?cursor=1`)
  assert.equal(bad.status, 400)
})

test('Of events that are not there, or are in another project, nothing is told', async (t) => {
  const server = await startApp(t)
  const { id } = await server.send({ message: 'mine' })
  await server.database.sql(
    "insert into projects (organization_id, slug, name) select id, 'other', 'Other' from organizations",
  )
  for (const [path, status] of [
    [`/api/v1/projects/other/events/${id}/grouping`, 404],
    [`/api/v1/projects/app/events/${'0'.repeat(32)}/grouping`, 404],
    ['/api/v1/projects/app/events/5/grouping', 400],
    ['/api/v1/issues/999/hashes', 404],
  ] as const) {
    assert.equal((await server.api('GET', path)).status, status, path)
  }
})
