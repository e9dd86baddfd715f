// The HTTP doors: Sentry's envelope, store, security and tunnel, Mesher's events and bulk. Each authenticates as early as it
// knows the key, and answers only after the commit. Every answer, errors too, carries the CORS headers: without the exposed
// ones a browser SDK cannot see that it is rate limited and keeps sending.

import { AppError } from '../errors.ts'
import type { HttpReply, HttpRequest, HttpRoute } from '../http/types.ts'
import type { Accept, ProjectKey, Result, Stored } from './accept.ts'
import { createBodyDecoder, decodeStoreBody } from './body.ts'
import { credentialsOf, plainProject, publicKeyFrom } from './credentials.ts'
import { errorPageFrom, errorPageScript, reportFromForm } from './error-page.ts'
import { elementsFrom, maxEventBytes } from './json.ts'
import { receiveEnvelope } from './receive.ts'
import { securityReportsFrom } from './security.ts'
import type { SenderOf } from './sender.ts'

const maxEnvelopeBody = 20 * 1024 * 1024
/** An event of 1 MiB as base64, percent-encoded. */
const maxStoreBody = 4 * 1024 * 1024
const maxFormBody = 64 * 1024
const errorPagePath = '/api/embed/error-page/'
const maxBulkBody = 5 * 1024 * 1024
const maxBulkEvents = 1000

const cors = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'x-sentry-error, x-sentry-rate-limits, retry-after',
}
const preflight = {
  ...cors,
  'access-control-allow-methods': 'POST',
  'access-control-allow-headers':
    'x-sentry-auth, x-requested-with, x-forwarded-for, origin, referer, accept, content-type, authentication, ' +
    'authorization, content-encoding, transfer-encoding, sentry-trace, baggage',
  'access-control-max-age': '3600',
}

export function ingestRoutes({ accept, senderOf }: { accept: Accept; senderOf: SenderOf }): HttpRoute[] {
  const decode = createBodyDecoder()
  async function inflated(request: HttpRequest, most: number): Promise<Buffer> {
    const body = await request.body()
    const bytes = await decode(body, request.header('content-encoding'), most)
    if (bytes !== body) request.hold(bytes.length)
    return bytes
  }

  async function envelope(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const { key, envelope } = await receiveEnvelope(accept, request, projectFrom(request))
    const stored = await accept.envelope(key, envelope, from)
    return sentryReply(stored?.id ?? envelope.header.event_id)
  }

  async function tunnel(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const { key, envelope } = await receiveEnvelope(accept, request)
    const stored = await accept.envelope(key, envelope, from)
    return sentryReply(stored?.id ?? envelope.header.event_id)
  }

  async function store(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const key = await accept.authenticate(publicKeyFrom(credentialsOf(request)), projectFrom(request))
    accept.admit(key)
    const bytes = await decodeStoreBody(await inflated(request, maxStoreBody), decode, maxStoreBody)
    return sentryReply((await accept.stored(key, bytes, from)).id)
  }

  async function security(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const key = await accept.authenticate(publicKeyFrom(credentialsOf(request)), projectFrom(request))
    accept.admit(key)
    const { query } = request
    const userAgent = from.user_agent ?? ''
    const reports = securityReportsFrom(await inflated(request, maxEventBytes), { query, userAgent })
    await accept.security(key, reports, from)
    return { status: 200, headers: cors }
  }

  async function errorPage(request: HttpRequest): Promise<HttpReply> {
    const page = errorPageFrom(request.query)
    await accept.authenticate(page.dsn.public_key, page.dsn.project)
    const headers = { ...cors, 'content-type': 'text/javascript; charset=utf-8' }
    return { status: 200, headers, body: errorPageScript(page, request.query) }
  }

  async function errorReport(request: HttpRequest): Promise<HttpReply> {
    const { dsn, event_id } = errorPageFrom(request.query)
    const key = await accept.authenticate(dsn.public_key, dsn.project)
    await accept.feedback(key, reportFromForm(await inflated(request, maxFormBody), event_id, Date.now()))
    return sentryReply(event_id)
  }

  async function events(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const key = await bearerKey(accept, request)
    accept.admit(key)
    const stored = await accept.event(key, await inflated(request, maxEventBytes), from)
    return { status: 202, headers: cors, body: storedText(stored) }
  }

  async function bulk(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const key = await bearerKey(accept, request)
    const elements = elementsFrom(await inflated(request, maxBulkBody), maxBulkEvents)
    const results: string[] = new Array(elements.length)
    const take = (result: Result, index: number) => {
      results[index] = resultText(result)
    }
    await accept.results(key, elements, take, from)
    return { status: 202, headers: cors, body: `{"results":[${results.join(',')}]}` }
  }

  const doors: Door[] = [
    { path: '/api/:project/envelope/', maxBody: maxEnvelopeBody, handle: envelope, errorReply: sentryError },
    { path: '/api/:project/store/', maxBody: maxStoreBody, handle: store, errorReply: sentryError },
    // Of the time before DSNs had a project.
    { path: '/api/store/', maxBody: maxStoreBody, handle: store, errorReply: sentryError },
    { path: '/api/:project/security/', maxBody: maxEventBytes, handle: security, errorReply: sentryError },
    { path: '/tunnel/', maxBody: maxEnvelopeBody, handle: tunnel, errorReply: sentryError },
    { path: errorPagePath, maxBody: maxFormBody, handle: errorReport, errorReply: sentryError },
    { path: '/api/v1/events/', maxBody: maxEventBytes, handle: events, errorReply: apiError },
    { path: '/api/v1/events/bulk/', maxBody: maxBulkBody, handle: bulk, errorReply: apiError },
  ]
  const script = [errorPagePath, errorPagePath.slice(0, -1)].map(
    (path): HttpRoute => ({
      method: 'get',
      path,
      also: belowPrefix(errorPagePath),
      handle: errorPage,
      onError: (error) => sentryError(error instanceof AppError ? error : failure()),
    }),
  )
  return [...doors.flatMap(routesOf), ...script]
}

interface Door {
  /** With its last slash. */
  path: string
  maxBody: number
  handle: HttpRoute['handle']
  errorReply: (error: AppError) => HttpReply
}

/** With and without the last slash, which SDKs send and people forget, and below any prefix: a redirect would lose the body. */
function routesOf({ path, maxBody, handle, errorReply }: Door): HttpRoute[] {
  const also = belowPrefix(path)
  return [path, path.slice(0, -1)].flatMap((spelling): HttpRoute[] => [
    {
      method: 'post',
      path: spelling,
      also,
      maxBody,
      handle,
      // What is no AppError was logged with its stack by then.
      onError: (error) => errorReply(error instanceof AppError ? error : failure()),
    },
    { method: 'options', path: spelling, also, maxBody: 0, handle: () => ({ status: 204, headers: preflight }) },
  ])
}

/** Behind a proxy that keeps its path (`/errors/api/42/envelope/`), and with slashes too many, as Relay has it. */
function belowPrefix(path: string): NonNullable<HttpRoute['also']> {
  const pattern = path.split('/').filter(Boolean)
  return (sent) => {
    const parts = sent.split('/').filter(Boolean).slice(-pattern.length)
    if (parts.length < pattern.length) return null
    const params: Record<string, string> = {}
    for (const [at, part] of pattern.entries()) {
      if (part.startsWith(':')) params[part.slice(1)] = parts[at]!
      else if (part !== parts[at]) return null
    }
    return params
  }
}

function failure(): AppError {
  return new AppError('internal', 'The server failed; nothing was stored.')
}

/** Written by hand: JSON.stringify of it was a tenth of a small event's cost. Ids are hex and digits, so they need no escape. */
export function storedText(stored: Stored): string {
  if (stored.status === 'dropped') return JSON.stringify(stored)
  return `{"status":"accepted","id":"${stored.id}","issue_id":"${stored.issue_id}"}`
}

export function resultText(result: Result): string {
  return result.status === 'rejected' ? JSON.stringify(result) : storedText(result)
}

/** The key of a request to Mesher's own doors. */
export function bearerKey(accept: Accept, request: HttpRequest): ProjectKey | Promise<ProjectKey> {
  return accept.authenticate(publicKeyFrom({ ...credentialsOf(request), bearer: true }))
}

/** Undefined at a door whose path names none. */
function projectFrom(request: HttpRequest): string | undefined {
  const { project } = request.params
  if (project === undefined) return undefined
  if (!/^\d{1,30}$/.test(project))
    throw new AppError('not_found', 'The project in the path is not a number: check the DSN.')
  return plainProject(project)
}

function sentryReply(id: string | null): HttpReply {
  return { status: 200, headers: cors, body: id === null ? '{}' : `{"id":"${id}"}` }
}

function sentryError(error: AppError): HttpReply {
  const headers: Record<string, string> = {
    ...cors,
    ...retryHeaders(error),
    'x-sentry-error': headerText(error.message),
  }
  const after = headers['retry-after']
  // Others, client reports and feedback among them, are still taken.
  const categories = 'error;default;security;attachment'
  if (error.code === 'rate_limited') headers['x-sentry-rate-limits'] = `${after}:${categories}:project:quota`
  // For everything, and by name as well: an SDK for JavaScript that was limited by name once looks at no other limit.
  else if (after) {
    headers['x-sentry-rate-limits'] = `${after}::project:${error.code},${after}:${categories}:project:${error.code}`
  }
  return { status: error.status, headers, body: JSON.stringify({ detail: error.message, causes: causesOf(error) }) }
}

/** What went wrong beneath; of our own faults nothing is told. */
function causesOf(error: AppError): string[] {
  return error.status < 500 && error.cause instanceof Error ? [error.cause.message.slice(0, 200)] : []
}

function apiError(error: AppError): HttpReply {
  const { code, message, details } = error
  const body = { error: details.length > 0 ? { code, message, details } : { code, message } }
  return { status: error.status, headers: { ...cors, ...retryHeaders(error) }, body: JSON.stringify(body) }
}

/** Always with 429 and 503: SDKs without a number stop for a minute, or not at all. */
function retryHeaders(error: AppError): Record<string, string> {
  if (error.status !== 429 && error.status !== 503) return {}
  return { 'retry-after': String(Math.max(1, Math.ceil(error.retryAfter ?? 5))) }
}

function headerText(message: string): string {
  return message.replace(/[^\x20-\x7e]/g, ' ').slice(0, 200)
}
