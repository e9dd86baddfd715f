// Sign-in with a real OpenID Connect provider.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp, type TestApp } from '../support/app.ts'
import { createPerson, join, setUpOwner } from '../support/person.ts'
import { browse, startProvider, type TestProvider } from '../support/provider.ts'
import type { Scope } from '../support/scope.ts'

async function startBoth(t: Scope, domains: string[] = []): Promise<{ server: TestApp; provider: TestProvider }> {
  const provider = await startProvider(t)
  const { issuer, clientId, clientSecret } = provider
  const server = await startApp(t, { openId: { issuer, clientId, clientSecret, name: 'Example', domains } })
  await provider.allow(`${server.url}/auth/openid/callback`)
  return { server, provider }
}

async function enter(server: TestApp, provider: TestProvider, login: string) {
  const { url, cookies } = await browse(`${server.url}/auth/openid/start`, provider, login)
  const person = createPerson(server)
  const session = cookies.get('mesher_session')
  if (session) person.cookie = `mesher_session=${session}`
  const me = await person.ask<{ email?: string; name?: string; organizations?: { role: string }[] }>(
    'GET',
    '/api/v1/me',
  )
  return { url: url.slice(server.url.length), me: me.body, cookies, person }
}

test('Whoever has an account signs in through the provider with the verified address of it', async (t) => {
  const { server, provider } = await startBoth(t)
  await setUpOwner(server)
  assert.equal((await createPerson(server).ask('GET', '/api/v1/auth')).body.openid_connect, 'Example')
  provider.accounts.set('sub-1', { email: 'Owner@example.com', email_verified: true })
  const first = await enter(server, provider, 'sub-1')
  assert.deepEqual([first.url, first.me.email], ['/', 'owner@example.com'])
  assert.equal(first.cookies.has('mesher_openid'), false)
  // From now on it is the subject that counts: addresses change hands.
  provider.accounts.set('sub-1', { email: 'renamed@example.com', email_verified: true })
  assert.equal((await enter(server, provider, 'sub-1')).me.email, 'owner@example.com')
})

test('An address that the provider has not verified, or that nobody knows, stays outside', async (t) => {
  const { server, provider } = await startBoth(t)
  await setUpOwner(server)
  provider.accounts.set('liar', { email: 'owner@example.com', email_verified: false })
  provider.accounts.set('stranger', { email: 'stranger@example.com', email_verified: true })
  provider.accounts.set('nameless', {})
  for (const login of ['liar', 'stranger', 'nameless']) {
    const { url, me, cookies } = await enter(server, provider, login)
    assert.equal(url, '/#/openid/forbidden', login)
    assert.equal(me.email, undefined)
    assert.equal(cookies.has('mesher_session'), false)
  }
  assert.deepEqual(await server.database.sql('select count(*)::int as n from users'), [{ n: 1 }])
})

test('An invitation, or a domain that the configuration names, lets somebody new in', async (t) => {
  const { server, provider } = await startBoth(t, ['example.org'])
  const owner = await setUpOwner(server)
  await owner.ask('POST', '/api/v1/organizations/default/invitations', { email: 'new@example.com', role: 'admin' })
  provider.accounts.set('invited', { email: 'new@example.com', email_verified: true, name: 'New Person' })
  provider.accounts.set('colleague', { email: 'colleague@example.org', email_verified: true })
  provider.accounts.set('lookalike', { email: 'colleague@evil-example.org', email_verified: true })
  const invited = await enter(server, provider, 'invited')
  assert.deepEqual([invited.me.name, invited.me.organizations![0]!.role], ['New Person', 'admin'])
  const colleague = await enter(server, provider, 'colleague')
  assert.deepEqual([colleague.me.email, colleague.me.organizations![0]!.role], ['colleague@example.org', 'member'])
  assert.equal((await enter(server, provider, 'lookalike')).url, '/#/openid/forbidden')
})

test('A disabled account stays outside, through the provider too', async (t) => {
  const { server, provider } = await startBoth(t)
  const owner = await setUpOwner(server)
  await join(server, owner, { email: 'gone@example.com', role: 'member' })
  provider.accounts.set('gone', { email: 'gone@example.com', email_verified: true })
  assert.equal((await enter(server, provider, 'gone')).url, '/')
  await server.database.sql("update users set disabled_at = now() where email = 'gone@example.com'")
  assert.equal((await enter(server, provider, 'gone')).url, '/#/openid/forbidden')
})

test('An answer that this browser did not ask for begins no session', async (t) => {
  const { server } = await startBoth(t)
  await setUpOwner(server)
  const queries = ['', '?code=stolen&state=guessed', '?error=access_denied&state=x']
  const kept = Buffer.from(JSON.stringify({ state: 'a', nonce: 'b', verifier: 'c' })).toString('base64url')
  for (const query of queries) {
    for (const cookie of ['', 'mesher_openid=rubbish', `mesher_openid=${kept}`]) {
      const response = await fetch(`${server.url}/auth/openid/callback${query}`, {
        redirect: 'manual',
        headers: { cookie },
      })
      assert.equal(response.status, 302)
      assert.equal(response.headers.get('location'), `${server.url}/#/openid/unauthenticated`)
      assert.ok(!response.headers.getSetCookie().some((set) => set.startsWith('mesher_session=')))
    }
  }
})

test('A provider that does not answer is said to be away, and asked again the next time', async (t) => {
  const provider = await startProvider(t)
  const { clientId, clientSecret } = provider
  const server = await startApp(t, {
    openId: { issuer: 'http://127.0.0.1:1', clientId, clientSecret, name: 'Example', domains: [] },
  })
  const response = await fetch(`${server.url}/auth/openid/start`, { redirect: 'manual' })
  assert.equal(response.headers.get('location'), `${server.url}/#/openid/unavailable`)
})
