// A real OpenID Connect provider (oidc-provider), and a browser for it: cookies by host, redirects by hand, its forms filled in.

import { createServer, type Server } from 'node:http'
import Provider from 'oidc-provider'
import type { Scope } from './scope.ts'

export interface Claims {
  email?: string
  email_verified?: boolean
  name?: string
}

export interface TestProvider {
  issuer: string
  clientId: string
  clientSecret: string
  /** Whoever signs in there as `name`. */
  accounts: Map<string, Claims>
  /** It takes redirects to this server from now on. */
  allow(redirectUri: string): Promise<void>
}

/** A first server to know the port, since the issuer is part of everything that the provider signs. */
export async function startProvider(t: Scope): Promise<TestProvider> {
  const accounts = new Map<string, Claims>()
  const server = createServer()
  const port = await listen(server)
  t.after(() => void server.close())
  const issuer = `http://127.0.0.1:${port}`
  const [clientId, clientSecret] = ['mesher', 'a secret of the provider for mesher']
  return {
    issuer,
    clientId,
    clientSecret,
    accounts,
    async allow(redirectUri) {
      const provider = new Provider(issuer, {
        clients: [{ client_id: clientId, client_secret: clientSecret, redirect_uris: [redirectUri] }],
        claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
        findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub, ...accounts.get(sub) }) }),
        cookies: { keys: ['a key of this test'] },
      })
      server.removeAllListeners('request')
      server.on('request', provider.callback())
    },
  }
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
  })
}

/** Follows redirects from `url`, signs in at the provider as `login` and consents; returns the first page elsewhere. */
export async function browse(
  url: string,
  provider: TestProvider,
  login: string,
): Promise<{ url: string; cookies: Map<string, string> }> {
  const jars = new Map<string, Map<string, string>>()
  let next: { url: string; form?: string } = { url }
  for (let step = 0; step < 30; step += 1) {
    const { origin } = new URL(next.url)
    const jar = jars.get(origin) ?? new Map<string, string>()
    jars.set(origin, jar)
    const response = await fetch(next.url, {
      redirect: 'manual',
      method: next.form === undefined ? 'GET' : 'POST',
      headers: {
        cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; '),
        ...(next.form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
      },
      ...(next.form === undefined ? {} : { body: next.form }),
    })
    for (const set of response.headers.getSetCookie()) {
      const [pair = ''] = set.split(';')
      const at = pair.indexOf('=')
      if (pair.slice(at + 1) === '') jar.delete(pair.slice(0, at))
      else jar.set(pair.slice(0, at), pair.slice(at + 1))
    }
    const location = response.headers.get('location')
    const html = await response.text()
    if (location) next = { url: new URL(location, next.url).href }
    else if (origin === provider.issuer) next = { url: actionOf(html, next.url), form: formOf(html, login) }
    else return { url: next.url, cookies: jar }
  }
  throw new Error('the sign-in goes in circles')
}

function actionOf(html: string, base: string): string {
  const action = /<form[^>]* action="([^"]+)"/.exec(html)?.[1]
  if (!action) throw new Error(`the provider shows no form: ${html.slice(0, 500)}`)
  return new URL(action, base).href
}

function formOf(html: string, login: string): string {
  const prompt = /name="prompt" value="(\w+)"/.exec(html)?.[1] ?? ''
  return new URLSearchParams(prompt === 'login' ? { prompt, login, password: 'anything' } : { prompt }).toString()
}
