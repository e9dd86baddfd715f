// What a request says about who sent it: the address, whether it came by TLS, whether a page of this server sent it, the
// session cookie. Headers of a proxy count only when TRUSTED_PROXIES names it: anybody can send them.

import { parseCookie, stringifySetCookie } from 'cookie'
import { sessionLifetime, type Visitor } from '../access/sessions.ts'
import { AppError } from '../errors.ts'
import type { HttpRequest } from './types.ts'

export interface Edge {
  visitor(request: HttpRequest): Visitor
  /** Where browsers find this server, without a slash at its end. */
  baseUrl(request: HttpRequest): string
  /** '' when there is none. */
  sessionCookie(request: HttpRequest): string
  /** The `Set-Cookie` that starts a session, or with '' ends it. */
  setSession(request: HttpRequest, text: string): string
  /** Throws forbidden unless a page of this server sent the request. */
  checkOrigin(request: HttpRequest): void
}

export interface EdgeOptions {
  /** Without a slash at its end; undefined where browsers use the address that they are told by their Host header. */
  publicUrl: string | undefined
  /** Whom a request came from, behind proxies too. */
  addressOf(request: HttpRequest): string
  /** One of ours, whose X-Forwarded-Proto counts. */
  isProxy(address: string): boolean
}

const maxCookieBytes = 8 * 1024

export function createEdge({ publicUrl, addressOf, isProxy }: EdgeOptions): Edge {
  function isSecure(request: HttpRequest): boolean {
    if (publicUrl?.startsWith('https:')) return true
    return isProxy(request.remoteAddress) && request.header('x-forwarded-proto').split(',')[0]!.trim() === 'https'
  }

  /** `__Host-`: no other host, no other path, and never without TLS can set it. */
  const cookieName = (request: HttpRequest) => (isSecure(request) ? '__Host-mesher_session' : 'mesher_session')

  function originOf(request: HttpRequest): string {
    if (publicUrl) return new URL(publicUrl).origin
    return `${isSecure(request) ? 'https' : 'http'}://${request.header('host').toLowerCase()}`
  }

  return {
    baseUrl: (request) => publicUrl ?? originOf(request),
    visitor: (request) => ({ address: addressOf(request), user_agent: request.header('user-agent').slice(0, 300) }),
    sessionCookie(request) {
      const header = request.header('cookie')
      if (header === '' || header.length > maxCookieBytes) return ''
      return parseCookie(header)[cookieName(request)] ?? ''
    },
    setSession(request, text) {
      return stringifySetCookie({
        name: cookieName(request),
        value: text,
        path: '/',
        httpOnly: true,
        sameSite: 'lax',
        secure: isSecure(request),
        maxAge: text === '' ? 0 : sessionLifetime,
      })
    },
    checkOrigin(request) {
      const origin = request.header('origin')
      const site = request.header('sec-fetch-site')
      if (origin === originOf(request) && (site === '' || site === 'same-origin')) return
      throw new AppError(
        'forbidden',
        'A page of another origin may not use your session. Behind a proxy set PUBLIC_URL to the address that browsers use; programs send an API token instead',
      )
    },
  }
}
