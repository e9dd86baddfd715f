// Several servers share nothing but PostgreSQL: what one of them accepts or refuses holds at all.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { startApp, startAppOn, type TestApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'
import { committed, follow, holds } from '../support/follower.ts'
import { handshake } from '../support/handshake.ts'
import { sendLoad } from '../support/load.ts'
import { createRandom } from '../support/random.ts'
import { within } from '../support/within.ts'

async function startTwo(t: TestContext): Promise<[TestApp, TestApp]> {
  const first = await startApp(t)
  const { project_id, public_key, token, database } = first
  return [first, await startAppOn(t, database, { project_id, public_key, token })]
}

const socketUrl = (server: TestApp, path: string) => `${server.url.replace('http', 'ws')}${path}`

async function openIngest(t: TestContext, server: TestApp) {
  const socket = new WebSocket(socketUrl(server, `/ingest?sentry_key=${server.public_key}`))
  t.after(() => socket.terminate())
  await within('open', once(socket, 'open'))
  const closed = once(socket, 'close').then(([code]) => code as number)
  return { socket, closed }
}

test('An event that one server accepts, and an issue that the other resolves, reach the subscribers of both', async (t) => {
  const [one, two] = await startTwo(t)
  const clients = [await one.stream(), await two.stream()]
  const { id, issue_id } = await one.send({ message: 'sent to one' })
  for (const client of clients) {
    assert.equal((await client.next('issue')).action, 'created')
    assert.equal((await client.next('event')).data.id, id)
  }
  assert.equal((await two.api('POST', `/api/v1/issues/${issue_id}/resolve`, {})).status, 200)
  for (const client of clients) {
    const resolved = await client.next('issue')
    assert.deepEqual([resolved.action, resolved.issue_id], ['resolved', issue_id])
    assert.equal((await client.next('issue_count')).count, 0)
  }
})

test('Subscribers of two servers get the same messages in the same order under load', async (t) => {
  const random = createRandom()
  const [one, two] = await startTwo(t)
  const clients = [await one.stream(), await two.stream()]
  const filtered = await two.stream({ level: ['error'], environment: ['production'] })
  // The actions of people come in between, and go to both servers.
  const people = (async () => {
    for (let n = 0; n < 15; n++) {
      const { issue_id } = await random.pick([one, two]).send({ message: 'an issue', fingerprint: [`of people ${n}`] })
      const action = random.pick(['resolve', 'archive', 'delete'])
      assert.equal((await random.pick([one, two]).api('POST', `/api/v1/issues/${issue_id}/${action}`, {})).status, 200)
    }
  })()
  await Promise.all([sendLoad([one, two], random, { events: 500 }), people])
  const marker = await two.send({ message: 'marker', fingerprint: ['marker'] })
  const told = []
  for (const client of [...clients, filtered]) {
    await client.next('issue', (message) => message.issue_id === marker.issue_id)
    const messages = client.received.filter(({ type }) => type === 'event' || type === 'issue')
    told.push(
      messages.map((message) => {
        if (message.type === 'event')
          return `event ${message.data.id} ${message.data.level} ${message.data.environment}`
        return message.type === 'issue' ? `${message.action} ${message.issue_id}` : ''
      }),
    )
  }
  const [atOne, atTwo, atFiltered] = told as [string[], string[], string[]]
  assert.deepEqual(atOne, atTwo, `seed ${random.seed}`)
  assert.equal(new Set(atOne).size, atOne.length, 'nothing is told twice')
  assert.ok(atOne.length > 500, 'there is something to compare')
  assert.deepEqual(
    atFiltered,
    atOne.filter((text) => !text.startsWith('event') || text.endsWith(' error production')),
    `seed ${random.seed}`,
  )
  const { unresolved } = await committed(one.database, one.project_id)
  await eventually(() => {
    for (const client of clients) assert.equal(client.ofType('issue_count').at(-1)?.count, unresolved)
  })
})

test('A client may resume at another server with the cursor of the first', async (t) => {
  const random = createRandom()
  const [one, two] = await startTwo(t)
  const atOne = follow(t, one)
  await atOne.ready
  const load = sendLoad([one, two], random, { events: 400 })
  await eventually(() => assert.notEqual(atOne.events.size, 0, 'nothing came yet'))
  atOne.leave()
  const atTwo = follow(t, two, { since: atOne.cursor })
  await load
  await eventually(() => assert.equal(atTwo.unresolved === null, false, 'not subscribed yet'))
  const expected = await committed(one.database, one.project_id)
  for (const id of atOne.events) atTwo.events.add(id)
  for (const change of atOne.issues) atTwo.issues.add(change)
  await holds(atTwo, expected, `seed ${random.seed}`)
})

test('A revoked key is refused at every door of every server, and its sockets are closed with 4401', async (t) => {
  const [one, two] = await startTwo(t)
  const sockets = [await openIngest(t, one), await openIngest(t, two)]
  for (const server of [one, two]) await server.send({ message: 'the key is known here' })
  // Another key of the project stays good.
  const other = 'e'.repeat(32)
  const { sql } = one.database
  await sql('insert into project_keys (public_key, project_id) values ($1, $2)', [other, one.project_id])
  const spared = await openIngest(t, { ...two, public_key: other })

  await sql('update project_keys set revoked_at = now() where public_key = $1', [one.public_key])
  for (const { closed } of sockets) assert.equal(await within('the close', closed), 4401)
  for (const server of [one, two]) {
    await eventually(() => assert.rejects(server.send({ message: 'refused' }), /^Error: 403/))
    const answer = await handshake(`${server.url}/ingest?sentry_key=${server.public_key}`)
    assert.equal(answer.status, 403)
  }
  spared.socket.send('{"message":"the other key"}')
  const [reply] = (await within('message', once(spared.socket, 'message'))) as [Buffer]
  assert.equal(JSON.parse(String(reply)).status, 'accepted')

  await sql('update project_keys set revoked_at = null where public_key = $1', [one.public_key])
  for (const server of [one, two]) await eventually(() => server.send({ message: 'welcome back' }))
})

test('A deleted key is refused as a revoked one is', async (t) => {
  const [one, two] = await startTwo(t)
  const { closed } = await openIngest(t, two)
  await one.database.sql('delete from project_keys where public_key = $1', [one.public_key])
  assert.equal(await within('the close', closed), 4401)
  for (const server of [one, two]) {
    await eventually(() => assert.rejects(server.send({ message: 'refused' }), /^Error: 403/))
  }
})

test('A revoked token closes its streams with 4401 at every server, and opens no others', async (t) => {
  const [one, two] = await startTwo(t)
  const clients = [await one.stream(), await one.stream(), await two.stream()]
  const { sql } = one.database
  const token = `msh_${'7'.repeat(40)}`
  await sql(
    `insert into api_tokens (organization_id, name, token_hash)
     select organization_id, 'other', sha256(convert_to($1, 'utf8')) from api_tokens`,
    [token],
  )
  const spared = await startAppOn(t, one.database, { ...two, token }).then((server) => server.stream())

  await sql("update api_tokens set revoked_at = now() where name <> 'other'")
  for (const client of clients) assert.equal((await within('the close', client.closed)).code, 4401)
  for (const server of [one, two]) {
    assert.equal((await server.api('GET', '/api/v1/projects')).status, 401)
    const answer = await handshake(`${server.url}/stream/projects/app`, { authorization: `Bearer ${server.token}` })
    assert.equal(answer.status, 401)
  }
  await one.send({ message: 'who is left hears it' })
  await spared.next('event')

  await sql('delete from api_tokens')
  assert.equal((await within('the close', spared.closed)).code, 4401)
})

test('A server that stops sends its clients to the other, and they miss nothing', async (t) => {
  const random = createRandom()
  const [one, two] = await startTwo(t)
  const client = await one.stream()
  const load = sendLoad([two], random, { events: 300 })
  await client.next('event', () => client.ofType('event').length > 50)
  await one.app.stop()
  assert.equal((await within('the close', client.closed)).code, 1001)
  await load
  const resumed = await two.stream({ since: client.cursor() })
  await resumed.next('mark')
  const ids = [client, resumed].flatMap((each) => each.ofType('event').map((message) => message.data.id))
  const expected = await committed(two.database, two.project_id)
  assert.deepEqual([...new Set(ids)].sort(), expected.events, `seed ${random.seed}`)
})
