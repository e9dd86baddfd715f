// A route of the HTTP API as a row of a table: who may call it, what its path names, schemas in and out, a value back.
// Binding authenticates, finds the target among what the caller may see, checks the right, parses, calls, answers.
// Handlers get what was authorised and never look a project up by what a body says; they never see a response, and
// everything that goes wrong is an AppError.

import type { z } from 'zod'
import { type Access, type Right, rightIn } from '../access/access.ts'
import type { Visitor } from '../access/sessions.ts'
import { checkRight, type Organization, type Project, type Targets } from '../access/targets.ts'
import { AppError } from '../errors.ts'
import type { IssueSummary } from '../protocol.ts'
import type { Edge } from './edge.ts'
import type { HttpMethod, HttpReply, HttpRequest, HttpRoute } from './types.ts'

/** What a path names, by the name of its parameter: `:organization`, `:project`, `:issue`. */
export interface Named {
  organization: Organization
  project: Project
  issue: IssueSummary
  nothing: null
}
export type Target = keyof Named

/**
 * `nobody`: no credentials are looked at. `anybody`: any credentials; what is answered is what they may see. `person`: a
 * signed-in user, about themselves. A right: on the target.
 */
export type Need = 'nobody' | 'anybody' | 'person' | Right

export interface Call<T extends Target> {
  /** For `nobody` one that may do nothing. */
  access: Access
  target: Named[T]
  /** Of the target's organization. */
  right: Right
  visitor: Visitor
  /** Where browsers find this server, for links and DSNs. */
  baseUrl: string
  /** '' when there is none. */
  sessionCookie: string
  /** Starts a session in the browser; '' ends it. */
  setSession(text: string): void
}

interface Row<T extends Target, P, Q, B> {
  method: HttpMethod
  path: string
  summary: string
  need: Need
  on: T
  /** Of success; 200 when absent. */
  status?: number
  params?: P
  query?: Q
  body?: B
  reply: z.ZodType
}

type Output<S> = S extends z.ZodType ? z.output<S> : undefined

export interface ApiRoute extends Row<Target, z.ZodType, z.ZodType, z.ZodType> {
  handle(call: Call<Target>, input: { params: unknown; query: unknown; body: unknown }): Promise<unknown>
}

/** Infers what the handler gets from the schemas and the target. */
export function route<T extends Target, P = undefined, Q = undefined, B = undefined>(
  row: Row<T, P, Q, B> & {
    handle(call: Call<T>, input: { params: Output<P>; query: Output<Q>; body: Output<B> }): Promise<unknown>
  },
): ApiRoute {
  return row as unknown as ApiRoute
}

/** After whatever this row does, `changed` is called: who may do what may be another by then. */
export function changesAccess(row: ApiRoute, changed: () => void): ApiRoute {
  return row.method === 'get' ? row : { ...row, handle: (call, input) => row.handle(call, input).finally(changed) }
}

export interface ApiDeps {
  edge: Edge
  targets: Targets
  /** Null when these projects have no such issue. */
  findIssue(projectIds: string[], id: string): Promise<IssueSummary | null>
  authenticateToken(text: string): Promise<Access>
  authenticateSession(text: string): Promise<Access>
}

const maxBody = 64 * 1024
const nobody: Access = { credential: '', actor: 'nobody', user_id: null, grants: [], only_project_id: null }

export function bindApi(rows: ApiRoute[], deps: ApiDeps): HttpRoute[] {
  return rows.map((row) => ({
    method: row.method,
    path: row.path,
    ...(row.body ? { maxBody } : {}),
    async handle(request) {
      const headers: Record<string, string> = { 'cache-control': 'no-store' }
      const access = row.need === 'nobody' ? nobody : await authenticate(deps, request)
      // Whoever signs in from another site's page would be signed in as somebody else's account.
      if (row.need === 'nobody' && row.method !== 'get' && request.header('origin') !== '')
        deps.edge.checkOrigin(request)
      if (row.need === 'person' && access.user_id === null) {
        throw new AppError('forbidden', 'This is about a person: sign in; an API token is nobody')
      }
      const { target, organization_id } = await find(deps, row, access, request.params)
      const call: Call<Target> = {
        access,
        target,
        right: (organization_id && rightIn(access, organization_id)) || 'read',
        visitor: deps.edge.visitor(request),
        baseUrl: deps.edge.baseUrl(request),
        sessionCookie: deps.edge.sessionCookie(request),
        setSession(text) {
          headers['set-cookie'] = deps.edge.setSession(request, text)
        },
      }
      const value = await row.handle(call, {
        params: parse(row.params, request.params),
        query: parse(row.query, Object.fromEntries(new URLSearchParams(request.query))),
        body: row.body ? parse(row.body, await json(request)) : undefined,
      })
      return answer(row.status ?? 200, headers, value)
    },
  }))
}

const answer = (status: number, headers: Record<string, string>, value: unknown): HttpReply =>
  status === 204 ? { status, headers } : { status, headers, body: JSON.stringify(value) }

/** An API token, else the session cookie; a cookie that changes something has to come from a page of ours. */
export async function authenticate(
  deps: Pick<ApiDeps, 'edge' | 'authenticateToken' | 'authenticateSession'>,
  request: HttpRequest,
): Promise<Access> {
  const token = bearer(request)
  if (token !== '') return deps.authenticateToken(token)
  const cookie = deps.edge.sessionCookie(request)
  if (cookie === '') {
    throw new AppError('unauthenticated', 'Sign in, or send an API token as "Authorization: Bearer msh_…"')
  }
  if (request.method !== 'get' && request.method !== 'head') deps.edge.checkOrigin(request)
  return deps.authenticateSession(cookie)
}

async function find(
  { targets, findIssue }: ApiDeps,
  { on, need }: ApiRoute,
  access: Access,
  params: Record<string, string>,
): Promise<{ target: Named[Target]; organization_id: string | null }> {
  const right = need === 'nobody' || need === 'anybody' || need === 'person' ? 'read' : need
  if (on === 'organization') {
    const target = await targets.organization(access, params.organization ?? '', right)
    return { target, organization_id: target.id }
  }
  if (on === 'project') {
    const target = await targets.project(access, params.project ?? '', right)
    return { target, organization_id: target.organization_id }
  }
  if (on === 'nothing') return { target: null, organization_id: null }
  const projects = await targets.projects(access)
  const ids = projects.map((project) => project.id)
  const issue = /^[1-9][0-9]{0,17}$/.test(params.issue ?? '') ? await findIssue(ids, params.issue!) : null
  const project = projects.find(({ id }) => id === issue?.project_id)
  if (!issue || !project) throw new AppError('not_found', 'There is no such issue, or you may not see it')
  checkRight(access, project.organization_id, right)
  return { target: issue, organization_id: project.organization_id }
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
