// The HTTP API, /api/v1, row by row.

import { z } from 'zod'
import type { Tokens } from '../access/tokens.ts'
import { AppError } from '../errors.ts'
import { levels, statuses } from '../protocol.ts'
import type { ClientReports } from '../read/client-reports.ts'
import type { FeedbackReader } from '../read/feedback.ts'
import type { Groupings } from '../read/grouping.ts'
import type { Issues } from '../read/issues.ts'
import type { Act, IssueActionName } from '../triage/issues.ts'
import type { Merges } from '../triage/merge.ts'
import { type ApiRoute, route } from './api.ts'
import { IssueParams, Nothing, triageRoutes } from './triage.ts'

export interface ApiDeps {
  tokens: Tokens
  issues: Issues
  feedback: FeedbackReader
  clientReports: ClientReports
  groupings: Groupings
  act(action: IssueActionName, act: Act): Promise<number>
  merges: Merges
}

const ProjectParams = z.object({ project: z.string().min(1).max(64) })
const EventParams = z.object({
  project: z.string().min(1).max(64),
  event: z
    .string()
    .regex(/^[0-9a-fA-F]{32}$|^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/, 'an event id is 32 hex digits'),
})
const ListQuery = z.strictObject({
  status: z.enum(statuses).optional(),
  level: z.enum(levels).optional(),
  limit: z.coerce.number().int().min(1).max(100).default(25),
  cursor: z.string().max(100).optional(),
})
const PageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(25),
  cursor: z.string().max(100).optional(),
})
const Time = z.iso.datetime({ offset: true }).transform((text) => new Date(text))
const RangeQuery = z.strictObject({ since: Time.optional(), until: Time.optional() })
const noIssue = () => new AppError('not_found', 'There is no such issue, or this token may not see it')

export function apiRoutes({ tokens, issues, groupings, feedback, clientReports, act, merges }: ApiDeps): ApiRoute[] {
  async function issueOf(access: Parameters<ApiRoute['handle']>[0], id: string) {
    const projects = await tokens.projects(access)
    const issue = await issues.find(
      projects.map((project) => project.id),
      id,
    )
    if (!issue) throw noIssue()
    return issue
  }

  return [
    route({
      method: 'get',
      path: '/api/v1/projects',
      summary: 'Projects that this token may see',
      query: Nothing,
      handle: async (access) => ({ data: await tokens.projects(access), next_cursor: null }),
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project/issues',
      summary: 'Issues of a project, most recently seen first',
      params: ProjectParams,
      query: ListQuery,
      handle: async (access, { params, query }) =>
        issues.list((await tokens.project(access, params.project)).id, query),
    }),
    route({
      method: 'get',
      path: '/api/v1/issues/:id',
      summary: 'One issue',
      params: IssueParams,
      query: Nothing,
      handle: (access, { params }) => issueOf(access, params.id),
    }),
    route({
      method: 'get',
      path: '/api/v1/issues/:id/hashes',
      summary: 'What makes events belong to an issue',
      params: IssueParams,
      query: PageQuery,
      async handle(access, { params, query }) {
        const issue = await issueOf(access, params.id)
        return groupings.hashes(issue.project_id, issue.id, query)
      },
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project/events/:event/grouping',
      summary: 'Why an event belongs to its issue',
      params: EventParams,
      query: Nothing,
      async handle(access, { params }) {
        const grouping = await groupings.ofEvent((await tokens.project(access, params.project)).id, params.event)
        if (!grouping) throw new AppError('not_found', 'There is no such event in this project')
        return grouping
      },
    }),
    route({
      method: 'get',
      path: '/api/v1/issues/:id/feedback',
      summary: 'What people wrote about events of an issue, the latest first',
      params: IssueParams,
      query: PageQuery,
      async handle(access, { params, query }) {
        const issue = await issueOf(access, params.id)
        return feedback.list({ project_id: issue.project_id, issue_id: issue.id }, query)
      },
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project/feedback',
      summary: 'What people wrote, about an event or without one, the latest first',
      params: ProjectParams,
      query: PageQuery,
      handle: async (access, { params, query }) =>
        feedback.list({ project_id: (await tokens.project(access, params.project)).id }, query),
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project/client-reports',
      summary: 'What SDKs threw away between two hours (the last 24 by default), by reason and category',
      params: ProjectParams,
      query: RangeQuery,
      async handle(access, { params, query }) {
        const { id } = await tokens.project(access, params.project)
        return { data: await clientReports.sums(id, query), next_cursor: null }
      },
    }),
    ...triageRoutes({ issueOf, act, merges }),
  ]
}
