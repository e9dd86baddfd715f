// The two addresses that a browser visits on its way to an OpenID Connect provider and back. Both answer with redirects; what goes
// wrong is said by the page, by its code.

import { parseCookie, stringifySetCookie } from 'cookie'
import { z } from 'zod'
import type { OpenId, Pending } from '../access/openid.ts'
import { AppError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Edge } from './edge.ts'
import type { HttpReply, HttpRequest, HttpRoute } from './types.ts'

const callback = '/auth/openid/callback'
const cookieName = 'mesher_openid'
const Kept = z.strictObject({ state: z.string(), nonce: z.string(), verifier: z.string() })

export interface OpenIdRouteDeps {
  /** Null when none is configured: then the page offers none either. */
  openId: OpenId | null
  edge: Edge
  log: Log
}

export function openIdRoutes({ openId, edge, log }: OpenIdRouteDeps): HttpRoute[] {
  function toPage(request: HttpRequest, error: unknown): HttpReply {
    const code = error instanceof AppError ? error.code : 'internal'
    if (code === 'internal') log.error('openid.failed', { error })
    else log.info('openid.refused', { code, error })
    return redirect(`${edge.baseUrl(request)}/#/openid/${code}`, [keep(request, null)])
  }

  /** Readable by no script, sent with the redirect back (a top-level GET), and gone with it. */
  function keep(request: HttpRequest, pending: Pending | null): string {
    return stringifySetCookie({
      name: cookieName,
      value: pending === null ? '' : Buffer.from(JSON.stringify(pending)).toString('base64url'),
      path: '/auth/openid',
      httpOnly: true,
      sameSite: 'lax',
      secure: edge.baseUrl(request).startsWith('https:'),
      maxAge: pending === null ? 0 : 600,
    })
  }

  function kept(request: HttpRequest): Pending {
    const text = parseCookie(request.header('cookie').slice(0, 8 * 1024))[cookieName] ?? ''
    try {
      return Kept.parse(JSON.parse(Buffer.from(text, 'base64url').toString()))
    } catch {
      throw new AppError('unauthenticated', 'This browser did not begin a sign-in, or too long ago: begin it anew')
    }
  }

  if (openId === null) return []
  return [
    {
      method: 'get',
      path: '/auth/openid/start',
      async handle(request) {
        try {
          const { url, pending } = await openId.begin(`${edge.baseUrl(request)}${callback}`)
          return redirect(url, [keep(request, pending)])
        } catch (error) {
          return toPage(request, error)
        }
      },
    },
    {
      method: 'get',
      path: callback,
      async handle(request) {
        try {
          const answer = new URL(`${edge.baseUrl(request)}${callback}?${request.query}`)
          const session = await openId.finish(answer, kept(request), edge.visitor(request))
          return redirect(`${edge.baseUrl(request)}/`, [edge.setSession(request, session), keep(request, null)])
        } catch (error) {
          return toPage(request, error)
        }
      },
    },
  ]
}

function redirect(location: string, cookies: string[]): HttpReply {
  return { status: 302, headers: { location, 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' }, cookies }
}
