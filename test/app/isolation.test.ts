// Every route and every socket door with everybody who could knock: each role, each token, another organization's owner, a DSN
// key, nobody. What each may do stands in the table here; a route that is not in it fails the test.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp, type TestApp } from '../support/app.ts'
import { handshake } from '../support/handshake.ts'
import { createPerson, join, type Person, setUpOwner } from '../support/person.ts'
import { rows } from '../support/routes.ts'

/** Who may; `nobody` needs no credentials, `anybody` any, `person` a session, `key` a DSN key. */
const allowed: Record<string, 'nobody' | 'anybody' | 'person' | 'read' | 'write' | 'admin' | 'owner' | 'key'> = {
  'get /': 'nobody',
  'get /app.js': 'nobody',
  'get /sign-in.js': 'nobody',
  'get /style.css': 'nobody',
  'get /healthz': 'nobody',
  'get /readyz': 'nobody',
  'get /metrics': 'nobody',
  'get /api/v1/auth': 'nobody',
  'post /api/v1/auth/setup': 'nobody',
  'post /api/v1/auth/sign-in': 'nobody',
  'post /api/v1/auth/sign-out': 'nobody',
  'post /api/v1/auth/reset': 'nobody',
  'post /api/v1/auth/invitation': 'nobody',
  'post /api/v1/auth/join': 'nobody',
  'get /api/v1/me': 'person',
  'post /api/v1/me/password': 'person',
  'get /api/v1/me/sessions': 'person',
  'delete /api/v1/me/sessions/:session': 'person',
  'get /api/v1/organizations': 'anybody',
  'post /api/v1/organizations': 'person',
  'get /api/v1/organizations/:organization': 'read',
  'patch /api/v1/organizations/:organization': 'owner',
  'delete /api/v1/organizations/:organization': 'owner',
  'get /api/v1/organizations/:organization/audit': 'admin',
  'get /api/v1/organizations/:organization/members': 'read',
  'patch /api/v1/organizations/:organization/members/:user': 'admin',
  'delete /api/v1/organizations/:organization/members/:user': 'admin',
  'get /api/v1/organizations/:organization/invitations': 'admin',
  'post /api/v1/organizations/:organization/invitations': 'admin',
  'delete /api/v1/organizations/:organization/invitations/:invitation': 'admin',
  'get /api/v1/organizations/:organization/tokens': 'admin',
  'post /api/v1/organizations/:organization/tokens': 'admin',
  'delete /api/v1/organizations/:organization/tokens/:token': 'admin',
  'post /api/v1/organizations/:organization/projects': 'admin',
  'get /api/v1/projects': 'anybody',
  'get /api/v1/projects/:project': 'read',
  'patch /api/v1/projects/:project': 'admin',
  'delete /api/v1/projects/:project': 'admin',
  'get /api/v1/projects/:project/keys': 'read',
  'post /api/v1/projects/:project/keys': 'admin',
  'patch /api/v1/projects/:project/keys/:key': 'admin',
  'delete /api/v1/projects/:project/keys/:key': 'admin',
  'get /api/v1/issues/:issue/hashes': 'read',
  'get /api/v1/projects/:project/events/:event/grouping': 'read',
  'get /api/v1/projects/:project/feedback': 'read',
  'get /api/v1/projects/:project/client-reports': 'read',
  'get /api/v1/issues/:issue/feedback': 'read',
  'get /api/v1/projects/:project/issues': 'read',
  'get /api/v1/issues/:issue': 'read',
  'post /api/v1/issues/:issue/resolve': 'write',
  'post /api/v1/issues/:issue/unresolve': 'write',
  'post /api/v1/issues/:issue/archive': 'write',
  'post /api/v1/issues/:issue/discard': 'write',
  'post /api/v1/issues/:issue/assign': 'write',
  'post /api/v1/issues/:issue/delete': 'write',
  'post /api/v1/issues/:issue/merge': 'write',
  'post /api/v1/issues/:issue/unmerge': 'write',
  'post /api/:project/envelope': 'key',
  'options /api/:project/envelope': 'nobody',
  'post /api/:project/envelope/': 'key',
  'options /api/:project/envelope/': 'nobody',
  'post /api/:project/store': 'key',
  'options /api/:project/store': 'nobody',
  'post /api/:project/store/': 'key',
  'options /api/:project/store/': 'nobody',
  'post /api/store': 'key',
  'options /api/store': 'nobody',
  'post /api/store/': 'key',
  'options /api/store/': 'nobody',
  'post /api/:project/security': 'key',
  'options /api/:project/security': 'nobody',
  'post /api/:project/security/': 'key',
  'options /api/:project/security/': 'nobody',
  'post /tunnel': 'key',
  'options /tunnel': 'nobody',
  'post /tunnel/': 'key',
  'options /tunnel/': 'nobody',
  'post /api/v1/events': 'key',
  'options /api/v1/events': 'nobody',
  'post /api/v1/events/': 'key',
  'options /api/v1/events/': 'nobody',
  'post /api/v1/events/bulk': 'key',
  'options /api/v1/events/bulk': 'nobody',
  'post /api/v1/events/bulk/': 'key',
  'options /api/v1/events/bulk/': 'nobody',
  'get /api/embed/error-page': 'key',
  'get /api/embed/error-page/': 'key',
  'post /api/embed/error-page': 'key',
  'post /api/embed/error-page/': 'key',
  'options /api/embed/error-page': 'nobody',
  'options /api/embed/error-page/': 'nobody',
  'ws /ingest': 'key',
  'ws /stream/projects/:project': 'read',
}

const rights = ['read', 'write', 'admin', 'owner']

interface Caller {
  name: string
  headers: Record<string, string>
  /** In the home organization; null where it does not exist for this caller. */
  right: 'read' | 'write' | 'admin' | 'owner' | null
  person: boolean
  /** Credentials that stand for somebody. */
  known: boolean
  /** A token of another project of the home organization sees neither the organization nor its other projects. */
}

/** Requests that say something unheard of: whoever may, is told so (400); whoever may not, is told that first. */
function expected(need: string, caller: Caller): number {
  if (need === 'nobody') return 400
  if (!caller.known) return 401
  if (need === 'person') return caller.person ? 400 : 403
  if (need === 'anybody') return 400
  if (caller.right === null) return 404
  return rights.indexOf(caller.right) >= rights.indexOf(need) ? 400 : 403
}

async function everybody(server: TestApp): Promise<Caller[]> {
  const owner = await setUpOwner(server)
  const admin = await join(server, owner, { email: 'admin@example.com', role: 'admin' })
  const member = await join(server, owner, { email: 'member@example.com', role: 'member' })
  const foreign = await join(server, owner, { email: 'foreign@example.com', role: 'owner' })
  await foreign.ask('POST', '/api/v1/organizations', { slug: 'rivals', name: 'Rivals' })
  const other = await owner.ask<{ id: string }>('POST', '/api/v1/organizations/default/projects', {
    slug: 'other',
    name: 'Other',
  })
  const foreignToken = await tokenOf(foreign, 'rivals', { scope: 'admin' })
  const me = await foreign.ask<{ id: string }>('GET', '/api/v1/me')
  const removed = await owner.ask('DELETE', `/api/v1/organizations/default/members/${me.body.id}`)
  assert.equal(removed.status, 200)

  const byCookie = (name: string, person: Person, right: Caller['right']): Caller => ({
    name,
    headers: { cookie: person.cookie, origin: server.url },
    right,
    person: true,
    known: true,
  })
  const byToken = (name: string, token: string, right: Caller['right'], known = true): Caller => ({
    name,
    headers: { authorization: `Bearer ${token}` },
    right,
    person: false,
    known,
  })
  const revoked = await tokenOf(owner, 'default', { scope: 'admin' }, true)
  return [
    { name: 'nobody', headers: {}, right: null, person: false, known: false },
    byToken('a DSN key', server.public_key, null, false),
    byToken('a revoked token', revoked, null, false),
    byToken(
      'an expired token',
      await tokenOf(owner, 'default', { scope: 'admin', expires_at: '2020-01-01T00:00:00Z' }),
      null,
      false,
    ),
    byToken('a read token', await tokenOf(owner, 'default', { scope: 'read' }), 'read'),
    byToken('a write token', await tokenOf(owner, 'default', { scope: 'write' }), 'write'),
    byToken('an admin token', await tokenOf(owner, 'default', { scope: 'admin' }), 'admin'),
    byToken(
      'a token of another project',
      await tokenOf(owner, 'default', { scope: 'admin', project_id: other.body.id }),
      null,
    ),
    byToken('another organization’s token', foreignToken, null),
    byCookie('a member', member, 'write'),
    byCookie('an admin', admin, 'admin'),
    byCookie('the owner', owner, 'owner'),
    byCookie('another organization’s owner', foreign, null),
  ]
}

async function tokenOf(person: Person, organization: string, values: object, revoke = false): Promise<string> {
  const { status, body } = await person.ask<{ id: string; token: string }>(
    'POST',
    `/api/v1/organizations/${organization}/tokens`,
    { name: 'a token', ...values },
  )
  assert.equal(status, 201, JSON.stringify(body))
  if (revoke) await person.ask('DELETE', `/api/v1/organizations/${organization}/tokens/${body.id}`)
  return body.token
}

test('The table of who may do what has every route that answers, and no other', async (t) => {
  const server = await startApp(t)
  const bound = server.app.routes.map(({ method, path }) => `${method} ${path}`)
  assert.deepEqual(
    bound.filter((name) => !(name in allowed)),
    [],
    'answers, and is not in the table',
  )
  assert.deepEqual(
    Object.keys(allowed).filter((name) => !bound.includes(name)),
    [],
    'is in the table, and does not answer',
  )
  for (const row of rows) {
    const name = `${row.method} ${row.path}`
    assert.equal(allowed[name], row.need, name)
    assert.ok(row.query !== undefined || row.body !== undefined, `${name} would take anything that it is sent`)
  }
})

test('Every route does for each caller what the table says, and nothing more', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'theirs' })
  const callers = await everybody(server)
  const ids: Record<string, string> = {
    organization: 'default',
    project: 'app',
    issue: issue_id,
    user: '1',
    session: '1',
    invitation: '1',
    token: '1',
    key: server.public_key,
    event: 'e'.repeat(32),
  }
  const problems: string[] = []
  for (const row of rows) {
    const path = row.path.replace(/:(\w+)/g, (_, name: string) => ids[name]!)
    for (const caller of callers) {
      const response = await fetch(`${server.url}${path}${row.query ? '?unheard=of' : ''}`, {
        method: row.method.toUpperCase(),
        headers: caller.headers,
        ...(row.body ? { body: '{"unheard":"of"}' } : {}),
      })
      await response.arrayBuffer()
      const should = expected(row.need, caller)
      if (response.status !== should)
        problems.push(`${caller.name}: ${row.method} ${path} is ${response.status}, not ${should}`)
    }
  }
  assert.deepEqual(problems, [])
  assert.equal((await server.api('GET', `/api/v1/issues/${issue_id}`)).status, 200, 'nothing was changed on the way')
})

test('What belongs to others is answered exactly as what does not exist', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'theirs' })
  const foreign = (await everybody(server)).filter(({ known, right }) => known && right === null)
  assert.ok(foreign.length >= 3)
  const pairs: [method: string, theirs: string, missing: string, body?: unknown][] = [
    ['GET', '/api/v1/projects/app', '/api/v1/projects/nowhere'],
    ['GET', '/api/v1/projects/1', '/api/v1/projects/987654'],
    ['GET', `/api/v1/issues/${issue_id}`, '/api/v1/issues/987654'],
    ['POST', `/api/v1/issues/${issue_id}/resolve`, '/api/v1/issues/987654/resolve', {}],
    ['GET', '/api/v1/organizations/default', '/api/v1/organizations/nowhere'],
    ['GET', '/api/v1/organizations/1/members', '/api/v1/organizations/987654/members'],
  ]
  for (const { name, headers } of foreign) {
    for (const [method, theirs, missing, body] of pairs) {
      const ask = async (path: string) => {
        const response = await fetch(`${server.url}${path}`, {
          method,
          headers,
          ...(body ? { body: JSON.stringify(body) } : {}),
        })
        return [response.status, await response.text()]
      }
      assert.deepEqual(await ask(theirs), await ask(missing), `${name}: ${method} ${theirs}`)
      assert.equal((await ask(theirs))[0], 404)
    }
  }
})

test('A stream opens for those who may read the project, and /ingest for its keys alone', async (t) => {
  const server = await startApp(t)
  for (const { name, headers, known, right } of await everybody(server)) {
    const stream = await handshake(`${server.url}/stream/projects/app`, headers)
    assert.equal(stream.status, !known ? 401 : right === null ? 404 : 101, `${name} at /stream`)
    const ingest = await handshake(`${server.url}/ingest`, headers)
    const mayIngest = name === 'a DSN key'
    assert.equal(ingest.status === 101, mayIngest, `${name} at /ingest: ${ingest.status}`)
    if (!mayIngest) assert.ok(ingest.status === 401 || ingest.status === 403, `${name} at /ingest: ${ingest.status}`)
  }
  const byCookie = createPerson(server)
  await byCookie.ask('POST', '/api/v1/auth/sign-in', { email: 'owner@example.com', password: 'correct horse battery' })
  for (const origin of ['https://evil.example', 'null', '']) {
    const headers = { cookie: byCookie.cookie, ...(origin === '' ? {} : { origin }) }
    assert.equal((await handshake(`${server.url}/stream/projects/app`, headers)).status, 403, `from ${origin}`)
  }
})
