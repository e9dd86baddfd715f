// The HTTP doors: Sentry's envelope and store, Mesher's events and bulk. Each authenticates from the headers before it waits for
// the body, and answers only after the commit. Every answer, errors too, carries the CORS headers: without the exposed ones
// a browser SDK cannot see that it is rate limited and keeps sending.

import { AppError } from '../errors.ts'
import type { HttpReply, HttpRequest, HttpRoute } from '../http/types.ts'
import type { Accept, ProjectKey, Result, Stored } from './accept.ts'
import { createBodyDecoder, decodeStoreBody } from './body.ts'
import { type Credentials, dsnKey, publicKeyFrom } from './credentials.ts'
import { parseEnvelope } from './envelope.ts'
import type { Sender } from './event.ts'
import { elementsFrom, maxEventBytes } from './json.ts'

const maxSentryBody = 20 * 1024 * 1024
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

export function ingestRoutes({ accept }: { accept: Accept }): HttpRoute[] {
  const decode = createBodyDecoder()
  const inflated = async (request: HttpRequest, most?: number) =>
    decode(await request.body(), request.header('content-encoding'), most)

  async function envelope(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const project = projectFrom(request)
    const sent = publicKeyFrom(credentialsOf(request))
    const early = sent === null ? null : await accept.authenticate(sent, project)
    const parsed = parseEnvelope(await inflated(request))
    const key = early ?? (await accept.authenticate(dsnKey(parsed.header.dsn), project))
    const stored = await accept.envelope(key, parsed, from)
    return sentryReply(stored?.id ?? parsed.header.event_id)
  }

  async function store(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const project = projectFrom(request)
    const key = await accept.authenticate(publicKeyFrom(credentialsOf(request)), project)
    const bytes = await decodeStoreBody(await inflated(request), decode)
    return sentryReply((await accept.stored(key, bytes, from)).id)
  }

  async function events(request: HttpRequest): Promise<HttpReply> {
    const from = senderOf(request)
    const key = await bearerKey(accept, request)
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

  const doors: { path: string; maxBody: number; handle: HttpRoute['handle']; errorReply: ErrorReply }[] = [
    { path: '/api/:project/envelope/', maxBody: maxSentryBody, handle: envelope, errorReply: sentryError },
    { path: '/api/:project/envelope', maxBody: maxSentryBody, handle: envelope, errorReply: sentryError },
    { path: '/api/:project/store/', maxBody: maxSentryBody, handle: store, errorReply: sentryError },
    { path: '/api/:project/store', maxBody: maxSentryBody, handle: store, errorReply: sentryError },
    { path: '/api/v1/events', maxBody: maxEventBytes, handle: events, errorReply: apiError },
    { path: '/api/v1/events/bulk', maxBody: maxBulkBody, handle: bulk, errorReply: apiError },
  ]
  return doors.flatMap(({ path, maxBody, handle, errorReply }): HttpRoute[] => [
    {
      method: 'post',
      path,
      maxBody,
      handle,
      // What is no AppError was logged with its stack by then.
      onError: (error) => errorReply(error instanceof AppError ? error : failure()),
    },
    { method: 'options', path, maxBody: 0, handle: () => ({ status: 204, headers: preflight }) },
  ])
}

function failure(): AppError {
  return new AppError('internal', 'The server failed; nothing was stored.')
}

type ErrorReply = (error: AppError) => HttpReply

/** Written by hand: JSON.stringify of it was a tenth of a small event's cost. Ids are hex and digits, so they need no escape. */
export function storedText(stored: Stored): string {
  if (stored.status === 'dropped') return JSON.stringify(stored)
  return `{"status":"accepted","id":"${stored.id}","issue_id":"${stored.issue_id}"}`
}

export function resultText(result: Result): string {
  return result.status === 'rejected' ? JSON.stringify(result) : storedText(result)
}

function credentialsOf(request: HttpRequest): Credentials {
  return {
    query: request.query,
    xSentryAuth: request.header('x-sentry-auth'),
    authorization: request.header('authorization'),
  }
}

/** Asked for at once: the address is gone with the connection. */
export function senderOf(request: HttpRequest): Sender {
  return { client_ip: request.remoteAddress || null, user_agent: request.header('user-agent') }
}

/** The key of a request to Mesher's own doors. */
export function bearerKey(accept: Accept, request: HttpRequest): ProjectKey | Promise<ProjectKey> {
  return accept.authenticate(publicKeyFrom({ ...credentialsOf(request), bearer: true }))
}

/** SDKs keep leading zeros of a DSN's project id. */
function projectFrom(request: HttpRequest): string {
  const project = request.params.project ?? ''
  if (!/^\d{1,30}$/.test(project))
    throw new AppError('not_found', 'The project in the path is not a number: check the DSN.')
  return project.replace(/^0+(?=\d)/, '')
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
  if (error.code === 'rate_limited') {
    const categories = 'error;default;security;attachment'
    headers['x-sentry-rate-limits'] = `${headers['retry-after']}:${categories}:project:rate_limited`
  }
  return { status: error.status, headers, body: JSON.stringify({ detail: error.message }) }
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
