// Somebody in a browser, as far as the server can tell: keeps the session cookie, and says which page sends a request.

import assert from 'node:assert/strict'
import type { TestApp } from './app.ts'

export interface Answer<T> {
  status: number
  body: T
  headers: Headers
}

export interface Person {
  /** As sent in `Cookie`; '' when signed out. */
  cookie: string
  ask<T = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer<T>>
}

export function createPerson(server: Pick<TestApp, 'url'>): Person {
  const person: Person = {
    cookie: '',
    async ask(method, path, body, headers = {}) {
      const response = await fetch(`${server.url}${path}`, {
        method,
        headers: {
          origin: server.url,
          ...(person.cookie === '' ? {} : { cookie: person.cookie }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      })
      for (const set of response.headers.getSetCookie()) {
        const pair = set.split(';')[0]!
        person.cookie = pair.endsWith('=') ? '' : pair
      }
      const text = await response.text()
      return { status: response.status, body: text === '' ? {} : JSON.parse(text), headers: response.headers } as never
    },
  }
  return person
}

export const ownerPassword = 'correct horse battery'

/** The first account of this server. */
export async function setUpOwner(server: Pick<TestApp, 'url'>, email = 'owner@example.com'): Promise<Person> {
  const person = createPerson(server)
  const answer = await person.ask('POST', '/api/v1/auth/setup', { email, name: 'Owner', password: ownerPassword })
  assert.equal(answer.status, 200, JSON.stringify(answer.body))
  return person
}

/** Invited by the owner and joined. */
export async function join(
  server: Pick<TestApp, 'url'>,
  owner: Person,
  { email, role, organization = 'default' }: { email: string; role: string; organization?: string },
): Promise<Person> {
  const invited = await owner.ask<{ link: string }>('POST', `/api/v1/organizations/${organization}/invitations`, {
    email,
    role,
  })
  assert.equal(invited.status, 201, JSON.stringify(invited.body))
  const person = createPerson(server)
  const link = invited.body.link.split('/').at(-1)
  const joined = await person.ask('POST', '/api/v1/auth/join', { link, name: email, password: ownerPassword })
  assert.equal(joined.status, 200, JSON.stringify(joined.body))
  return person
}
