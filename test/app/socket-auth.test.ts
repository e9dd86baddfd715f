// Who may open a stream, and who may ask the API: decided before the socket opens, and again when a token is revoked.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { startApp, type TestApp } from '../support/app.ts'
import type { TestDatabase } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { handshake } from '../support/handshake.ts'
import { startBehindProxy } from '../support/proxy.ts'
import { openStream } from '../support/stream.ts'
import { within } from '../support/within.ts'

const socketUrl = (server: TestApp, path: string) => `${server.url.replace('http', 'ws')}${path}`

/** Another token of the organization of this slug. */
async function addToken(database: TestDatabase, digit: string, organization = 'default'): Promise<string> {
  const token = `msh_${digit.repeat(40)}`
  await database.sql(
    `insert into api_tokens (organization_id, name, token_hash)
     select id, $2, sha256(convert_to($1, 'utf8')) from organizations where slug = $3`,
    [token, `token ${digit}`, organization],
  )
  return token
}

async function addForeignProject(database: TestDatabase): Promise<string> {
  await database.sql("insert into organizations (slug, name) values ('rivals', 'Rivals')")
  const [row] = await database.sql<{ id: string }>(
    "insert into projects (organization_id, slug, name) select id, 'secret', 'Secret' from organizations where slug = 'rivals' returning id",
  )
  return row!.id
}

test('A stream is refused in the upgrade: 401 without a valid token, 404 for a project the token may not know of', async (t) => {
  const server = await startApp(t)
  const foreign = await addForeignProject(server.database)
  const revoked = await addToken(server.database, '1')
  await server.database.sql("update api_tokens set revoked_at = now() where name = 'token 1'")
  const good = { authorization: `Bearer ${server.token}` }
  const own = `/stream/projects/${server.project_id}`
  const refused: [string, Record<string, string>, number, string][] = [
    [own, {}, 401, 'unauthenticated'],
    [own, { authorization: '' }, 401, 'unauthenticated'],
    [own, { authorization: 'Bearer' }, 401, 'unauthenticated'],
    [own, { authorization: `Basic ${server.token}` }, 401, 'unauthenticated'],
    [own, { authorization: `Bearer ${server.public_key}` }, 401, 'unauthenticated'],
    [own, { authorization: `Bearer msh_${'0'.repeat(40)}` }, 401, 'unauthenticated'],
    [own, { authorization: `Bearer ${server.token}0` }, 401, 'unauthenticated'],
    [own, { authorization: `Bearer ${server.token.toUpperCase()}` }, 401, 'unauthenticated'],
    [own, { authorization: `Bearer ${revoked}` }, 401, 'unauthenticated'],
    [`${own}?token=${server.token}`, {}, 401, 'unauthenticated'],
    // Without the protocol's own name the second one is no credential.
    [own, { 'sec-websocket-protocol': `bearer.${server.token}` }, 401, 'unauthenticated'],
    [own, { 'sec-websocket-protocol': `mesher.v1, bearer.${revoked}` }, 401, 'unauthenticated'],
    [`/stream/projects/${Number(server.project_id) + 1000}`, good, 404, 'not_found'],
    ['/stream/projects/nowhere', good, 404, 'not_found'],
    ['/stream/projects/APP', good, 404, 'not_found'],
    ['/stream/projects/0', good, 404, 'not_found'],
    ['/stream/projects/99999999999999999999', good, 404, 'not_found'],
    [`/stream/projects/${foreign}`, good, 404, 'not_found'],
    ['/stream/projects/secret', good, 404, 'not_found'],
    ['/stream/projects/%00', good, 404, 'not_found'],
    [`${own}?level=loud`, good, 400, 'bad_request'],
    [`${own}?environment=${'x'.repeat(65)}`, good, 400, 'bad_request'],
    [`${own}?sample=some`, good, 400, 'bad_request'],
  ]
  for (const [path, headers, status, code] of refused) {
    const answer = await handshake(`${server.url}${path}`, headers)
    const about = `${path.slice(0, 80)} ${JSON.stringify(headers).slice(0, 60)}`
    assert.equal(answer.status, status, about)
    const { error } = JSON.parse(answer.body) as { error: { code: string; message: string } }
    assert.equal(error.code, code, about)
    assert.ok(error.message.length > 10, about)
    assert.ok(!JSON.stringify([answer.headers, answer.body]).includes(server.token), 'no answer repeats the token')
  }
  const missing = await handshake(`${server.url}/stream/projects/nowhere`, good)
  const theirs = await handshake(`${server.url}/stream/projects/${foreign}`, good)
  assert.equal(theirs.body, missing.body, 'a foreign project looks like none')
})

test('A project may be named by id or slug', async (t) => {
  const server = await startApp(t)
  const client = openStream(t, socketUrl(server, '/stream/projects/app'), server.token)
  const subscribed = await client.next('subscribed')
  assert.equal(subscribed.project_id, server.project_id)
  await server.send({ message: 'by slug' })
  assert.equal((await client.next('event')).project_id, server.project_id)
})

test('The same slug in another organization is another project', async (t) => {
  const server = await startApp(t)
  const { database } = server
  await addForeignProject(database)
  const token = await addToken(database, '2', 'rivals')
  await database.sql("update projects set slug = 'app' where slug = 'secret'")
  const theirs = openStream(t, socketUrl(server, '/stream/projects/app'), token)
  const subscribed = await theirs.next('subscribed')
  assert.notEqual(subscribed.project_id, server.project_id)
  const mine = await server.stream()
  const { issue_id } = await server.send({ message: 'not for rivals' })
  await mine.next('event')
  await database.sql(
    "insert into issues (project_id, short_id, title, level) values ($1, 'APP-1', 'theirs', 'error')",
    [subscribed.project_id],
  )
  assert.equal((await theirs.next('issue')).issue?.title, 'theirs')
  assert.deepEqual(theirs.ofType('event'), [])
  const asked = await fetch(`${server.url}/api/v1/issues/${issue_id}`, {
    headers: { authorization: `Bearer ${token}` },
  })
  assert.equal(asked.status, 404)
})

test('A browser elsewhere sends its token as a subprotocol, and only the protocol’s own name is answered', async (t) => {
  const server = await startApp(t)
  const path = `/stream/projects/${server.project_id}`
  for (const offered of [`mesher.v1, bearer.${server.token}`, `bearer.${server.token},mesher.v1`]) {
    const answer = await handshake(`${server.url}${path}`, { 'sec-websocket-protocol': offered })
    assert.equal(answer.status, 101)
    assert.equal(answer.headers['sec-websocket-protocol'], 'mesher.v1')
    assert.ok(!JSON.stringify(answer.headers).includes(server.token), 'the token is never echoed')
  }
  const socket = new WebSocket(socketUrl(server, path), ['mesher.v1', `bearer.${server.token}`])
  t.after(() => socket.terminate())
  const [frame] = (await within('message', once(socket, 'message'))) as [Buffer]
  assert.equal(JSON.parse(String(frame)).type, 'subscribed')
  assert.equal(socket.protocol, 'mesher.v1')
  const plain = await handshake(`${server.url}${path}`, { authorization: `Bearer ${server.token}` })
  assert.equal(plain.headers['sec-websocket-protocol'], undefined)
})

test('One token may open so many sockets; the next is closed with 4429, and places become free again', async (t) => {
  const server = await startApp(t, { mostPerToken: 3 })
  const url = socketUrl(server, '/stream/projects/app')
  const clients = await Promise.all(Array.from({ length: 3 }, () => server.stream()))
  for (let more = 0; more < 2; more++) {
    const beyond = openStream(t, url, server.token)
    assert.equal((await within('the close', beyond.closed)).code, 4429)
    assert.deepEqual(beyond.ofType('event'), [])
  }
  const other = openStream(t, url, await addToken(server.database, '3'))
  await other.next('subscribed')
  await server.send({ message: 'the others go on' })
  for (const client of [...clients, other]) await client.next('event')
  clients[0]!.socket.close()
  await within('the close', clients[0]!.closed)
  await server.stream()
})

test('A token that is revoked in the middle of an upgrade opens no stream that lasts', async (t) => {
  const { server, database, proxy } = await startBehindProxy(t)
  const token = await addToken(database, '4')
  const witness = await server.stream()
  const { issue_id } = await server.send({ message: 'there is an issue' })
  await witness.next('event')
  // The token is looked up, and the answer is on its way while the token is revoked.
  proxy.hold('mesher')
  const late = openStream(t, socketUrl(server, '/stream/projects/app'), token)
  await eventually(async () => {
    const rows = await database.sql(
      `select from pg_stat_activity where datname = current_database() and application_name = 'mesher'
          and query like '%from "api_tokens" where "token_hash"%' and state = 'idle'`,
    )
    assert.equal(rows.length, 1, 'the token was not looked up yet')
  })
  await database.sql("update api_tokens set revoked_at = now() where name = 'token 4'")
  // Notifications come in order: when this event is here, the server knows that the token is revoked.
  await database.sql("insert into events (project_id, issue_id, title) values ($1, $2, 'after')", [
    server.project_id,
    issue_id,
  ])
  await witness.next('event', (message) => message.data.title === 'after')
  proxy.release('mesher')
  const { code } = await within('the close', late.closed)
  assert.ok(code === 4401 || code === 1006, `closed with ${code}: 4401, or refused in the upgrade`)
  const again = await handshake(`${server.url}/api/v1/projects`, { authorization: `Bearer ${token}` })
  assert.equal(again.status, 401)
})

test('The HTTP API says what is wrong with a token, a path, a query and a body', async (t) => {
  const server = await startApp(t)
  await addForeignProject(server.database)
  const { issue_id } = await server.send({ message: 'mine' })
  const asks: [string, string, unknown, number, string][] = [
    ['GET', '/api/v1/issues/999999', undefined, 404, 'not_found'],
    ['GET', '/api/v1/issues/one', undefined, 404, 'not_found'],
    ['GET', '/api/v1/projects/secret/issues', undefined, 404, 'not_found'],
    ['GET', '/api/v1/projects/app/issues?limit=0', undefined, 400, 'bad_request'],
    ['GET', '/api/v1/projects/app/issues?limit=101', undefined, 400, 'bad_request'],
    ['GET', '/api/v1/projects/app/issues?status=gone', undefined, 400, 'bad_request'],
    ['GET', '/api/v1/projects/app/issues?colour=red', undefined, 400, 'bad_request'],
    ['POST', '/api/v1/issues/999999/resolve', {}, 404, 'not_found'],
    ['POST', `/api/v1/issues/${issue_id}/assign`, {}, 400, 'bad_request'],
    ['POST', `/api/v1/issues/${issue_id}/assign`, { assigned_to: '' }, 400, 'bad_request'],
    ['POST', `/api/v1/issues/${issue_id}/resolve`, { now: true }, 400, 'bad_request'],
    ['POST', `/api/v1/issues/${issue_id}/explode`, {}, 404, 'not_found'],
    ['GET', `/api/v1/issues/${issue_id}/resolve`, undefined, 405, 'method_not_allowed'],
  ]
  for (const [method, path, body, status, code] of asks) {
    const answer = await server.api<{ error: { code: string; message: string } }>(method, path, body)
    assert.deepEqual([answer.status, answer.body.error.code], [status, code], `${method} ${path}`)
    assert.ok(answer.body.error.message.length > 10, `${method} ${path}`)
  }
  for (const authorization of ['', 'Bearer', `Bearer msh_${'0'.repeat(40)}`, `Bearer ${server.public_key}`]) {
    for (const [method, path] of [
      ['GET', '/api/v1/projects'],
      ['GET', `/api/v1/issues/${issue_id}`],
      ['POST', `/api/v1/issues/${issue_id}/resolve`],
    ] as const) {
      const answer = await fetch(`${server.url}${path}`, { method, headers: { authorization } })
      assert.equal(answer.status, 401, `${method} ${path} with "${authorization}"`)
    }
  }
  const found = await server.api<{ status: string }>('GET', `/api/v1/issues/${issue_id}`)
  assert.equal(found.body.status, 'unresolved', 'none of it changed anything')
})
