// A route of the HTTP API as a row of a table: schemas in, a value out. Binding authenticates, parses, calls, answers;
// handlers never see a response, and everything that goes wrong is an AppError.

import type { z } from 'zod'
import type { Access } from '../access/tokens.ts'
import { AppError } from '../errors.ts'
import type { HttpMethod, HttpReply, HttpRequest, HttpRoute } from './types.ts'

export interface ApiRoute {
  method: HttpMethod
  path: string
  summary: string
  params?: z.ZodType
  query?: z.ZodType
  body?: z.ZodType
  handle(access: Access, input: { params: unknown; query: unknown; body: unknown }): Promise<unknown>
}

interface Typed<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType> {
  method: HttpMethod
  path: string
  summary: string
  params?: P
  query?: Q
  body?: B
  handle(access: Access, input: { params: z.output<P>; query: z.output<Q>; body: z.output<B> }): Promise<unknown>
}

/** Infers what the handler gets from the schemas. */
export function route<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(row: Typed<P, Q, B>): ApiRoute {
  return row as unknown as ApiRoute
}

const maxBody = 64 * 1024

export function bindApi(rows: ApiRoute[], authenticate: (token: string) => Promise<Access>): HttpRoute[] {
  return rows.map((row) => ({
    method: row.method,
    path: row.path,
    ...(row.body ? { maxBody } : {}),
    async handle(request) {
      const access = await authenticate(bearer(request))
      const input = {
        params: parse(row.params, request.params),
        query: parse(row.query, Object.fromEntries(new URLSearchParams(request.query))),
        body: row.body ? parse(row.body, await json(request)) : undefined,
      }
      return ok(await row.handle(access, input))
    },
  }))
}

function ok(value: unknown): HttpReply {
  return { status: 200, headers: { 'cache-control': 'no-store' }, body: JSON.stringify(value) }
}

const bearer = (request: HttpRequest) => /^Bearer +(\S+)$/i.exec(request.header('authorization'))?.[1] ?? ''

async function json(request: HttpRequest): Promise<unknown> {
  const bytes = await request.body()
  if (bytes.length === 0) return {}
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new AppError('bad_request', 'The body is not JSON')
  }
}

function parse(schema: z.ZodType | undefined, value: unknown): unknown {
  if (!schema) return value
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const details = result.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }))
  throw new AppError('bad_request', `${details[0]!.path || 'request'}: ${details[0]!.message}`, { details })
}
