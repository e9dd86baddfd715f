// What a subscriber sees is decided by its filters, at every moment: `filters_updated` is the border between two of them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Filters, type Level, levels, type ServerMessage } from '../../server/protocol.ts'
import { startApp, type TestApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'
import { sendLoad } from '../support/load.ts'
import { createRandom } from '../support/random.ts'
import type { StreamClient } from '../support/stream.ts'
import { within } from '../support/within.ts'

type EventMessage = Extract<ServerMessage, { type: 'event' }>
type Change = Partial<Record<keyof Filters, string | string[]>>

const environments = ['production', 'staging', 'test', null]
const listOf = (filter: string | string[] | undefined) => (filter === undefined ? [] : [filter].flat())

function fits(filters: Change, { data }: EventMessage): boolean {
  const wanted = listOf(filters.environment)
  const levelFits = listOf(filters.level).length === 0 || listOf(filters.level).includes(data.level)
  return levelFits && (wanted.length === 0 || (data.environment !== null && wanted.includes(data.environment)))
}

const titles = (client: StreamClient) => client.ofType('event').map((message) => message.data.title)

/** A new issue is told to everyone, whatever the filters: what was committed before it has arrived when it has. */
async function passMarker(server: TestApp, clients: StreamClient[]) {
  const { issue_id } = await server.send({
    message: 'marker',
    fingerprint: [`marker ${Math.random()}`],
    level: 'debug',
  })
  for (const client of clients) await client.next('issue', (message) => message.issue_id === issue_id)
}

/** A row by hand, for what the doors would not let pass. */
async function insertEvent(server: TestApp, issueId: string, title: string, environment: string | null) {
  await server.database.sql('insert into events (project_id, issue_id, title, environment) values ($1, $2, $3, $4)', [
    server.project_id,
    issueId,
    title,
    environment,
  ])
}

test('A stream shows the events of its levels and environments only, and the changes of every issue', async (t) => {
  const server = await startApp(t)
  const asked: { level?: Level[]; environment?: string[] }[] = [
    {},
    { level: ['error'] },
    { level: ['fatal', 'error', 'fatal'] },
    { level: [...levels] },
    { environment: ['production'] },
    { environment: ['production', 'staging'] },
    { level: ['warning', 'debug'], environment: ['staging', 'test', 'nowhere'] },
    { environment: ['nowhere'] },
  ]
  const clients = await Promise.all(asked.map((filters) => server.stream(filters)))
  for (const level of levels) {
    for (const environment of environments) {
      const title = `${level} in ${environment}`
      await server.send({ message: title, level, ...(environment === null ? {} : { environment }) })
    }
  }
  await passMarker(server, clients)
  const all = clients[0]!.ofType('event').filter((message) => message.data.title !== 'marker')
  assert.equal(all.length, levels.length * environments.length)
  for (const [index, client] of clients.entries()) {
    const expected = all.filter((message) => fits(asked[index]!, message)).map((message) => message.data.title)
    const seen = titles(client).filter((title) => title !== 'marker')
    assert.deepEqual(seen, expected, `filters ${JSON.stringify(asked[index])}`)
    assert.equal(client.ofType('issue').length, clients[0]!.ofType('issue').length)
  }
})

test('A subscribe message takes a string or a list, and leaves out what it means to be open', async (t) => {
  const server = await startApp(t)
  const client = await server.stream({ level: ['debug'] })
  const asked: [unknown, Filters][] = [
    [{ level: 'error' }, { level: ['error'], environment: [] }],
    [{ environment: ['a', 'b'] }, { level: [], environment: ['a', 'b'] }],
    [
      { level: [], environment: [] },
      { level: [], environment: [] },
    ],
    [
      { level: ['info', 'debug'], environment: 'a' },
      { level: ['info', 'debug'], environment: ['a'] },
    ],
    [{}, { level: [], environment: [] }],
  ]
  for (const [index, [filters, expected]] of asked.entries()) {
    client.send({ type: 'subscribe', sample: false, filters, ref: index })
    const answer = await client.next('filters_updated')
    assert.deepEqual([answer.filters, answer.ref], [expected, index])
    assert.equal(answer.unresolved, 0)
    assert.match(answer.cursor, /./)
  }
  await server.send({ message: 'all is open' })
  assert.equal((await client.next('event')).data.title, 'all is open')
})

/** Events between two answers, with the filters that were in force. */
function segmentsOf(received: ServerMessage[]): { filters: Filters; events: EventMessage[] }[] {
  const segments: { filters: Filters; events: EventMessage[] }[] = []
  for (const message of received) {
    if (message.type === 'subscribed' || message.type === 'filters_updated') {
      segments.push({ filters: message.filters, events: [] })
    } else if (message.type === 'event') segments.at(-1)!.events.push(message)
  }
  return segments
}

/**
 * Whether there are borders in the project's order of events such that each segment is exactly what its filters let pass
 * between two borders. Filters hide where a border lies: it is somewhere from `from` to `to`.
 */
function firstBrokenSegment(order: EventMessage[], segments: ReturnType<typeof segmentsOf>): number | null {
  let from = 0
  let to = 0
  for (const [index, { filters, events }] of segments.entries()) {
    const fitting = [...order.keys()].filter((at) => fits(filters, order[at]!))
    if (events.length === 0) {
      to = fitting.find((at) => at >= to) ?? order.length
      continue
    }
    const first = fitting.findIndex((at) => order[at]!.data.id === events[0]!.data.id)
    const reachable = first >= 0 && fitting[first]! >= from && (first === 0 || fitting[first - 1]! < to)
    const asSeen = events.every(({ data }, n) => order[fitting[first + n] ?? -1]?.data.id === data.id)
    if (!reachable || !asSeen) return index
    from = fitting[first + events.length - 1]! + 1
    to = fitting[first + events.length] ?? order.length
  }
  return to === order.length ? null : segments.length
}

test('Filters that change while events flow lose nothing and double nothing', async (t) => {
  const random = createRandom()
  const server = await startApp(t)
  const witness = await server.stream()
  const clients = await Promise.all(Array.from({ length: 4 }, () => server.stream()))
  let flowing = true
  async function change(client: StreamClient) {
    for (let ref = 0; flowing || ref < 5; ref++) {
      const filters: Change = {
        level: random.shuffled(levels).slice(0, random.below(4)),
        environment: random.shuffled(['production', 'staging', 'nowhere']).slice(0, random.below(3)),
      }
      client.send({ type: 'subscribe', sample: false, filters, ref })
      const answer = await client.next('filters_updated')
      assert.equal(answer.ref, ref)
      assert.deepEqual(answer.filters, filters)
      // So many changes that many borders lie between two events of one transaction, few enough to be checked fast.
      const before = witness.received.length
      await eventually(() => assert.ok(!flowing || witness.received.length > before, 'nothing flows'))
    }
  }
  const changing = clients.map(change)
  await sendLoad([server], random, { events: 800, writers: 5 })
  flowing = false
  await Promise.all(changing)
  await passMarker(server, [witness, ...clients])
  const isLoad = (message: EventMessage) => message.data.title === 'load'
  const order = witness.ofType('event').filter(isLoad)
  assert.equal(order.length, 800)
  for (const client of clients) {
    const segments = segmentsOf(client.received).map((one) => ({ ...one, events: one.events.filter(isLoad) }))
    assert.ok(segments.length > 10, `the filters changed ${segments.length} times (seed ${random.seed})`)
    const broken = firstBrokenSegment(order, segments)
    assert.equal(broken, null, `of ${segments.length} segments, seed ${random.seed}`)
  }
})

test('A message that is not understood is answered with its ref, and the subscription stays as it was', async (t) => {
  const server = await startApp(t)
  const client = await server.stream({ level: ['error'], environment: ['production'] })
  const refused: [unknown, string | number | undefined][] = [
    [{ type: 'subscribe', sample: false, filters: { level: 'loud' }, ref: 1 }, 1],
    [{ type: 'subscribe', sample: false, filters: { level: ['error', 'loud'] }, ref: 'two' }, 'two'],
    [{ type: 'subscribe', sample: false, filters: { colour: 'red' }, ref: 3 }, 3],
    [{ type: 'subscribe', sample: false, filters: { environment: 5 }, ref: 5 }, 5],
    [
      {
        type: 'subscribe',
        sample: false,
        filters: { environment: Array.from({ length: 51 }, (_, n) => `e${n}`) },
        ref: 6,
      },
      6,
    ],
    [{ type: 'subscribe', sample: false, filters: 'error', ref: 7 }, 7],
    [{ type: 'subscribe', sample: false, filters: {}, since: 'x'.repeat(201), ref: 8 }, 8],
    [{ type: 'unsubscribe', ref: 9 }, 9],
    [{ type: 'ping', pong: true, ref: 10 }, 10],
    [{ type: 'ping', ref: { deep: true } }, undefined],
    [{ ref: 12 }, 12],
    [['subscribe'], undefined],
    [null, undefined],
    [13, undefined],
  ]
  for (const [message, ref] of refused) {
    client.send(message)
    const answer = await client.next('error')
    const about = JSON.stringify(message)
    assert.deepEqual([answer.code, answer.ref], ['bad_request', ref], about)
    assert.ok(answer.error.length > 5, about)
  }
  for (const [frame, binary] of [
    ['{"type":', false],
    ['', false],
    ['{"type":"ping","ref":1}', true],
  ] as const) {
    client.socket.send(Buffer.from(frame), { binary })
    assert.equal((await client.next('error')).code, 'bad_request', frame)
  }
  assert.equal(client.ofType('filters_updated').length, 0)

  await server.send({ message: 'hidden', level: 'error', environment: 'staging' })
  await server.send({ message: 'hidden', level: 'info', environment: 'production' })
  await server.send({ message: 'shown', level: 'error', environment: 'production' })
  await client.next('event')
  assert.deepEqual(titles(client), ['shown'])
})

test('A ping is answered with its ref, in order with everything else', async (t) => {
  const server = await startApp(t)
  const client = await server.stream()
  client.send({ type: 'ping', ref: 'a' })
  client.send({ type: 'subscribe', sample: false, filters: {}, ref: 'b' })
  client.send({ type: 'ping' })
  assert.equal((await client.next('pong')).ref, 'a')
  assert.equal((await client.next('filters_updated')).ref, 'b')
  assert.equal((await client.next('pong')).ref, undefined)
})

/** Replays cannot end while the table that they read is locked. */
async function holdReplays(server: TestApp) {
  const person = await server.database.connect()
  await person.query('begin')
  await person.query('lock table issue_activity in access exclusive mode')
  return () => person.query('rollback')
}

test('What a client sends faster than it can be answered is refused by its ref, and its subscription goes on', async (t) => {
  const server = await startApp(t)
  const hasty = await server.stream()
  const other = await server.stream()
  const release = await holdReplays(server)
  hasty.send({ type: 'subscribe', sample: false, filters: {}, since: hasty.cursor() })
  for (let ref = 0; ref < 100; ref++) hasty.send({ type: 'ping', ref })
  const refused = await hasty.next('error', ({ ref }) => ref === 99)
  assert.equal(refused.code, 'rate_limited')
  assert.match(refused.error, /32 messages/)
  await release()
  await hasty.next('filters_updated')
  hasty.send({ type: 'ping', ref: 'again' })
  await hasty.next('pong', ({ ref }) => ref === 'again')
  const refs = [...hasty.ofType('pong'), ...hasty.ofType('error')].map(({ ref }) => ref)
  assert.equal(new Set(refs).size, 101, 'each is answered')
  other.socket.send(`{"type":"ping","ref":"${'x'.repeat(17_000)}"}`)
  assert.equal((await within('the close', other.closed)).code, 1006, 'a frame beyond the limit closes its own socket')
  const third = await server.stream()
  await server.send({ message: 'life goes on' })
  assert.equal((await third.next('event')).data.title, 'life goes on')
})

test('An environment is matched by its exact text, whatever characters it is made of', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'there is an issue' })
  const odd = [
    '*',
    '=*',
    '*/*',
    'prod',
    'Prod',
    'prod ',
    'null',
    '%70rod',
    'a&b=c',
    '"q"',
    '\\',
    'größe',
    '☃️🚀',
    'p/1/e/*/*',
  ]
  const clients = await Promise.all(odd.map((environment) => server.stream({ environment: [environment] })))
  const all = await server.stream()
  for (const environment of odd) await insertEvent(server, issue_id, environment, environment)
  await insertEvent(server, issue_id, 'no environment', null)
  await insertEvent(server, issue_id, 'empty environment', '')
  await passMarker(server, [all, ...clients])
  for (const [index, client] of clients.entries()) assert.deepEqual(titles(client), [odd[index]])
  assert.deepEqual(titles(all).slice(0, odd.length + 2), [...odd, 'no environment', 'empty environment'])
  const bare = all.ofType('event').find((message) => message.data.title === 'no environment')
  assert.equal(bare?.data.environment, null)

  // The replay asks the same question in another place.
  const since = all.ofType('event')[0]!.cursor
  for (const environment of odd) {
    const resumed = await server.stream({ environment: [environment], since })
    await resumed.next('mark')
    assert.deepEqual(titles(resumed), [environment])
  }
})
