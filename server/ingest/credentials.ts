// The DSN key of a request. Sources in order: the query, X-Sentry-Auth, Authorization, the envelope's dsn; the first present
// one counts, and others that are present too must agree with it (accept.ts compares the dsn). The key is looked up elsewhere; here it is only found.

import { AppError } from '../errors.ts'
import type { HttpRequest } from '../http/types.ts'

export interface Credentials {
  /** Raw query string, without `?`. */
  query: string
  xSentryAuth: string
  authorization: string
  /** Mesher's own doors also take `Authorization: Bearer <key>`; elsewhere such a header is somebody else's. */
  bearer?: boolean
}

export function credentialsOf(request: HttpRequest): Credentials {
  return {
    query: request.query,
    xSentryAuth: request.header('x-sentry-auth'),
    authorization: request.header('authorization'),
  }
}

/** Null when no source holds a key. */
export function publicKeyFrom(sent: Credentials): string | null {
  let key: string | null = null
  for (const found of [
    queryKey(sent.query),
    sentryKey(sent.xSentryAuth, 'X-Sentry-Auth'),
    authorizationKey(sent.authorization, sent.bearer ?? false),
  ]) {
    if (found !== null && key !== null && found !== key) throw twoKeys()
    key ??= found
  }
  return key
}

function queryKey(query: string): string | null {
  return query.includes('sentry_key=') ? new URLSearchParams(query).get('sentry_key') || null : null
}

/** `Sentry sentry_key=..., sentry_version=7, sentry_client=...`; spaces around commas are arbitrary. */
function sentryKey(header: string, name: string): string | null {
  if (header === '') return null
  const key = /^\s*sentry\s(?:.*[\s,])?sentry_key\s*=\s*([^\s,]+)/i.exec(header.slice(0, 2048))?.[1]
  if (key === undefined) throw malformed(name, 'Sentry sentry_key=<key>, sentry_version=7')
  return key
}

function authorizationKey(header: string, bearer: boolean): string | null {
  const scheme = /^\s*(\w+)/.exec(header)?.[1]?.toLowerCase()
  if (scheme === 'sentry') return sentryKey(header, 'Authorization')
  if (scheme === 'basic') return basicKey(header)
  if (scheme !== 'bearer' || !bearer) return null
  const key = /^\s*bearer\s+(\S+)\s*$/i.exec(header)?.[1]
  if (key === undefined) throw malformed('Authorization', 'Bearer <key>')
  return key
}

/** The key is the user name; the password was the secret of old DSNs. */
function basicKey(header: string): string {
  const key = Buffer.from(header.replace(/^\s*basic\s*/i, ''), 'base64')
    .toString()
    .split(':')[0]
  if (!key) throw malformed('Authorization', 'Basic base64(<key>:)')
  return key
}

export interface Dsn {
  public_key: string
  /** Without leading zeros. */
  project: string
}

/**
 * The key and the project of `https://key[:secret]@host[:port][/prefix]/project`, whatever its host: with a `tunnel` the dsn of
 * the envelope's header is all there is. Null when it is none.
 */
export function dsnFrom(dsn: string | null): Dsn | null {
  if (dsn === null || dsn.length > 2048) return null
  const [, public_key, path] = /^https?:\/\/([^:@/\s]+)(?::[^@/\s]*)?@[^/\s?#]+\/([^\s?#]*)/.exec(dsn) ?? []
  const project = /(?:^|\/)(\d{1,30})\/*$/.exec(path ?? '')?.[1]
  return public_key === undefined || project === undefined ? null : { public_key, project: plainProject(project) }
}

/** SDKs keep leading zeros of a DSN's project id. */
export function plainProject(digits: string): string {
  return digits.replace(/^0+(?=\d)/, '')
}

export function twoKeys(): AppError {
  return new AppError('unauthenticated', 'The request names two different keys: send one DSN key, in one place.')
}

function malformed(header: string, form: string): AppError {
  return new AppError('unauthenticated', `The ${header} header is malformed: send "${form}".`)
}
