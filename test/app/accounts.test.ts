// People: the first owner, sign-in and out, forgotten passwords, invitations; what a stranger can learn of it, and what a dump.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { createReset } from '../../server/access/accounts.ts'
import { createDb, createPool } from '../../server/db/pool.ts'
import { createLog } from '../../server/log.ts'
import { startApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'
import { createPerson, join, ownerPassword, setUpOwner } from '../support/person.ts'

interface Refused {
  error: { code: string; message: string }
}
interface Me {
  id: string
  email: string
  organizations: { slug: string; role: string }[]
}

test('The first visitor makes the owner’s account, and nobody makes a second one that way', async (t) => {
  const server = await startApp(t)
  const visitor = createPerson(server)
  const before = await visitor.ask('GET', '/api/v1/auth')
  assert.deepEqual(before.body, { needs_setup: true, needs_setup_token: false, openid_connect: null })
  const owner = await setUpOwner(server, ' Owner@Example.COM ')
  const me = await owner.ask<Me>('GET', '/api/v1/me')
  assert.deepEqual(
    [me.body.email, me.body.organizations.map(({ slug, role }) => [slug, role])],
    ['owner@example.com', [['default', 'owner']]],
  )
  const second = await visitor.ask<Refused>('POST', '/api/v1/auth/setup', {
    email: 'other@example.com',
    name: 'Other',
    password: ownerPassword,
  })
  assert.deepEqual([second.status, second.body.error.code], [409, 'conflict'])
  assert.equal((await visitor.ask('GET', '/api/v1/auth')).body.needs_setup, false)
})

test('Of two who set up at once one owns the server, and the other is told', async (t) => {
  const server = await startApp(t)
  const answers = await Promise.all(
    ['a', 'b', 'c'].map((name) =>
      createPerson(server).ask('POST', '/api/v1/auth/setup', {
        email: `${name}@example.com`,
        name,
        password: ownerPassword,
      }),
    ),
  )
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 409, 409])
  assert.deepEqual(await server.database.sql('select count(*)::int as n from users'), [{ n: 1 }])
})

test('A server that others can reach asks for the token on its console before it has an owner', async (t) => {
  const server = await startApp(t, { setupToken: 'a-secret-of-the-console' })
  const visitor = createPerson(server)
  assert.equal((await visitor.ask('GET', '/api/v1/auth')).body.needs_setup_token, true)
  const owner = { email: 'owner@example.com', name: 'Owner', password: ownerPassword }
  for (const extra of [{}, { setup_token: '' }, { setup_token: 'a-secret-of-the-consolE' }]) {
    const refused = await visitor.ask<Refused>('POST', '/api/v1/auth/setup', { ...owner, ...extra })
    assert.deepEqual([refused.status, refused.body.error.code], [403, 'forbidden'])
  }
  const made = await visitor.ask('POST', '/api/v1/auth/setup', { ...owner, setup_token: 'a-secret-of-the-console' })
  assert.equal(made.status, 200)
})

test('Signing in starts another session each time, and ends the one that the browser had', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const first = owner.cookie
  const again = await owner.ask('POST', '/api/v1/auth/sign-in', { email: 'OWNER@example.com', password: ownerPassword })
  assert.equal(again.status, 200)
  assert.notEqual(owner.cookie, first)
  const [set] = again.headers.getSetCookie()
  assert.match(set!, /^mesher_session=[\w-]{43}; Max-Age=2592000; Path=\/; HttpOnly; SameSite=Lax$/)
  const old = createPerson(server)
  old.cookie = first
  assert.equal((await old.ask('GET', '/api/v1/me')).status, 401)
  assert.equal((await owner.ask('GET', '/api/v1/me')).status, 200)
  const signedOut = owner.cookie
  await owner.ask('POST', '/api/v1/auth/sign-out', {})
  assert.equal(owner.cookie, '')
  old.cookie = signedOut
  assert.equal((await old.ask('GET', '/api/v1/me')).status, 401)
})

test('Behind TLS the cookie is Secure and bound to its host', async (t) => {
  const server = await startApp(t, { trustedProxies: ['127.0.0.1'] })
  const person = createPerson(server)
  const answer = await person.ask(
    'POST',
    '/api/v1/auth/setup',
    { email: 'owner@example.com', name: 'Owner', password: ownerPassword },
    { 'x-forwarded-proto': 'https', origin: server.url.replace('http:', 'https:') },
  )
  assert.match(answer.headers.getSetCookie()[0]!, /^__Host-mesher_session=.+; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
})

test('A wrong password and an unknown address are answered alike', async (t) => {
  const server = await startApp(t)
  await setUpOwner(server)
  const stranger = createPerson(server)
  const wrong = await stranger.ask('POST', '/api/v1/auth/sign-in', {
    email: 'owner@example.com',
    password: 'something else',
  })
  const unknown = await stranger.ask('POST', '/api/v1/auth/sign-in', {
    email: 'nobody@example.com',
    password: 'something else',
  })
  assert.equal(wrong.status, 401)
  assert.deepEqual(wrong.body, unknown.body)
})

test('After ten failures an account has to wait, in every process, whoever it is that tries', async (t) => {
  const server = await startApp(t)
  await setUpOwner(server)
  const stranger = createPerson(server)
  for (const email of ['owner@example.com', 'nobody@example.com']) {
    const tried = await Promise.all(
      Array.from({ length: 13 }, () =>
        stranger.ask<Refused>('POST', '/api/v1/auth/sign-in', { email, password: 'a guess of it' }),
      ),
    )
    const refused = tried.filter(({ status }) => status === 429)
    assert.equal(tried.filter(({ status }) => status === 401).length, 10, email)
    assert.equal(refused.length, 3, email)
    assert.ok(refused.every(({ headers }) => Number(headers.get('retry-after')) >= 1))
  }
  // However long it takes until the next attempt.
  await server.database.sql('update sign_in_failures set failures = failures + 20')
  const right = await stranger.ask('POST', '/api/v1/auth/sign-in', {
    email: 'owner@example.com',
    password: ownerPassword,
  })
  assert.equal(right.status, 429, 'the right password has to wait as well')
  await server.database.sql("update sign_in_failures set last_at = now() - interval '16 minutes'")
  const later = await stranger.ask('POST', '/api/v1/auth/sign-in', {
    email: 'owner@example.com',
    password: ownerPassword,
  })
  assert.equal(later.status, 200)
})

test('Passwords that are too short, the address itself or one letter are refused with what to do', async (t) => {
  const server = await startApp(t)
  for (const password of ['short', 'aaaaaaaaaaaaaa', 'owner@example.com', 'x'.repeat(201)]) {
    const refused = await createPerson(server).ask<Refused>('POST', '/api/v1/auth/setup', {
      email: 'owner@example.com',
      name: 'Owner',
      password,
    })
    assert.ok(refused.status === 422 || refused.status === 400, password)
    assert.ok(refused.body.error.message.length > 20)
  }
})

test('E-mail addresses have one spelling, and no letters of other scripts', async (t) => {
  const server = await startApp(t)
  const bad = [
    'оwner@example.com',
    'owner@exаmple.com',
    'owner',
    'a b@example.com',
    'a@b@c',
    `${'x'.repeat(65)}@example.com`,
  ]
  for (const email of bad) {
    const refused = await createPerson(server).ask<Refused>('POST', '/api/v1/auth/setup', {
      email,
      name: 'Owner',
      password: ownerPassword,
    })
    assert.deepEqual([refused.status, refused.body.error.code], [400, 'bad_request'], email)
  }
})

test('A changed password ends every other session, and their open streams', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const elsewhere = createPerson(server)
  await elsewhere.ask('POST', '/api/v1/auth/sign-in', { email: 'owner@example.com', password: ownerPassword })
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/stream/projects/app`, {
    headers: { cookie: elsewhere.cookie, origin: server.url },
  })
  await once(socket, 'message')
  const closed = once(socket, 'close')
  const wrong = await owner.ask('POST', '/api/v1/me/password', {
    current: 'not this one',
    password: 'another long one',
  })
  assert.equal(wrong.status, 403)
  const changed = await owner.ask('POST', '/api/v1/me/password', {
    current: ownerPassword,
    password: 'another long one',
  })
  assert.equal(changed.status, 200)
  assert.equal((await closed)[0], 4401)
  assert.equal((await elsewhere.ask('GET', '/api/v1/me')).status, 401)
  assert.equal((await owner.ask('GET', '/api/v1/me')).status, 200)
})

test('A forgotten password is chosen anew with a link that works once', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const pool = createPool(server.database.url, createLog('error'))
  t.after(() => pool.end())
  const link = await createReset(createDb(pool), 'Owner@example.com', 'test')
  const visitor = createPerson(server)
  const done = await visitor.ask('POST', '/api/v1/auth/reset', { link, password: 'a new password' })
  assert.equal(done.status, 200)
  assert.equal((await visitor.ask<Me>('GET', '/api/v1/me')).body.email, 'owner@example.com')
  assert.equal((await owner.ask('GET', '/api/v1/me')).status, 401)
  const twice = await createPerson(server).ask<Refused>('POST', '/api/v1/auth/reset', {
    link,
    password: 'a new password',
  })
  assert.deepEqual([twice.status, twice.body.error.code], [404, 'not_found'])
})

test('Somebody who is invited joins with a new account, or with the password of the one they have', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const member = await join(server, owner, { email: 'Member@example.com', role: 'member' })
  assert.deepEqual((await member.ask<Me>('GET', '/api/v1/me')).body.organizations, [
    { id: '1', slug: 'default', name: 'Default', role: 'member' },
  ])
  await owner.ask('POST', '/api/v1/organizations', { slug: 'second', name: 'Second' })
  const invited = await owner.ask<{ link: string }>('POST', '/api/v1/organizations/second/invitations', {
    email: 'member@example.com',
    role: 'admin',
  })
  const link = invited.body.link.split('/').at(-1)
  const about = await createPerson(server).ask('POST', '/api/v1/auth/invitation', { link })
  assert.deepEqual(about.body, {
    email: 'member@example.com',
    organization: 'Second',
    role: 'admin',
    has_account: true,
  })
  const wrong = await createPerson(server).ask('POST', '/api/v1/auth/join', { link, password: 'not the password' })
  assert.equal(wrong.status, 401)
  const joined = await createPerson(server).ask('POST', '/api/v1/auth/join', { link, password: ownerPassword })
  assert.equal(joined.status, 200)
  await eventually(async () => {
    const me = await member.ask<Me>('GET', '/api/v1/me')
    const memberOf = me.body.organizations.map(({ slug, role }) => `${slug} ${role}`)
    assert.deepEqual(memberOf, ['default member', 'second admin'])
  })
})

test('An invitation that was withdrawn, replaced or used is over', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const invite = async () => {
    const { body } = await owner.ask<{ id: string; link: string }>(
      'POST',
      '/api/v1/organizations/default/invitations',
      {
        email: 'late@example.com',
      },
    )
    return { id: body.id, link: body.link.split('/').at(-1) }
  }
  const replaced = await invite()
  const withdrawn = await invite()
  const gone = await owner.ask('DELETE', `/api/v1/organizations/default/invitations/${withdrawn.id}`)
  assert.equal(gone.status, 200)
  for (const { link } of [replaced, withdrawn]) {
    const refused = await createPerson(server).ask('POST', '/api/v1/auth/join', { link, password: ownerPassword })
    assert.equal(refused.status, 404)
  }
})

test('Sessions are listed and ended one by one, each by its own user alone', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const member = await join(server, owner, { email: 'member@example.com', role: 'member' })
  type Listed = { data: { id: string; current: boolean }[] }
  const mine = await owner.ask<Listed>('GET', '/api/v1/me/sessions')
  assert.deepEqual(
    mine.body.data.map(({ current }) => current),
    [true],
  )
  const theirs = await member.ask('DELETE', `/api/v1/me/sessions/${mine.body.data[0]!.id}`)
  assert.equal(theirs.status, 404)
  assert.equal((await owner.ask('DELETE', `/api/v1/me/sessions/${mine.body.data[0]!.id}`)).status, 200)
  assert.equal((await owner.ask('GET', '/api/v1/me')).status, 401)
})

test('A key says when it was last used', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const keys = async () =>
    (await owner.ask<{ data: { last_used_at: string | null }[] }>('GET', '/api/v1/projects/app/keys')).body.data
  assert.deepEqual(
    (await keys()).map(({ last_used_at }) => last_used_at),
    [null],
  )
  await server.send({ message: 'by this key' })
  await eventually(async () => assert.notEqual((await keys())[0]!.last_used_at, null))
})

test('A page of another origin can do nothing with somebody’s session, not even sign them in', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const foreign: Record<string, string>[] = [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: `${server.url}.evil.example` },
    { origin: server.url, 'sec-fetch-site': 'same-site' },
  ]
  const writes: [path: string, body: unknown][] = [
    ['/api/v1/organizations', { slug: 'theirs', name: 'Theirs' }],
    ['/api/v1/auth/sign-out', {}],
    ['/api/v1/auth/sign-in', { email: 'owner@example.com', password: ownerPassword }],
  ]
  for (const headers of foreign) {
    for (const [path, body] of writes) {
      const answer = await owner.ask<Refused>('POST', path, body, headers)
      assert.deepEqual(
        [answer.status, answer.body.error.code],
        [403, 'forbidden'],
        `${path} ${JSON.stringify(headers)}`,
      )
      assert.deepEqual(answer.headers.getSetCookie(), [])
    }
  }
  // Without any Origin it is no browser's page; a cookie alone is not enough to change something.
  const bare = await fetch(`${server.url}/api/v1/organizations`, {
    method: 'POST',
    headers: { cookie: owner.cookie },
    body: JSON.stringify({ slug: 'theirs', name: 'Theirs' }),
  })
  assert.equal(bare.status, 403)
  assert.equal((await owner.ask('GET', '/api/v1/me')).status, 200)
})

test('A dump of the database holds no credential that works', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const invited = await owner.ask<{ link: string }>('POST', '/api/v1/organizations/default/invitations', {
    email: 'new@example.com',
  })
  const made = await owner.ask<{ token: string }>('POST', '/api/v1/organizations/default/tokens', {
    name: 'ci',
    scope: 'read',
  })
  const secrets = [
    ownerPassword,
    owner.cookie.split('=')[1]!,
    server.token,
    made.body.token,
    invited.body.link.split('/').at(-1)!,
  ]
  const tables = await server.database.sql<{ name: string }>(
    "select oid::regclass::text as name from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace",
  )
  for (const { name } of tables) {
    const rows = await server.database.sql<{ text: string }>(`select to_jsonb(x)::text as text from ${name} x`)
    for (const { text } of rows) {
      for (const secret of secrets) {
        const forms = [secret, Buffer.from(secret).toString('hex'), Buffer.from(secret).toString('base64')]
        for (const form of forms) assert.ok(!text.includes(form), `${name} holds ${form.slice(0, 12)}…`)
      }
    }
  }
})
