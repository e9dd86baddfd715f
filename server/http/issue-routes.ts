// Issues over HTTP, as people read them.

import { z } from 'zod'
import { levels, statuses } from '../protocol.ts'
import type { Issues } from '../read/issues.ts'
import { type ApiRoute, route } from './api.ts'
import { Id, listOf, Nothing, Page, Time } from './shapes.ts'

export interface IssueRouteDeps {
  issues: Issues
}

const Issue = z.strictObject({
  id: Id,
  project_id: Id,
  short_id: z.string(),
  title: z.string(),
  culprit: z.string().nullable(),
  level: z.enum(levels),
  platform: z.string(),
  status: z.enum(statuses),
  assigned_to: z.string().nullable(),
  first_seen: Time,
  last_seen: Time,
  event_count: z.number(),
  user_count: z.number(),
  dropped_count: z.number(),
  status_changed_at: Time,
  archived_until: Time.nullable(),
  archived_until_event_count: z.number().nullable(),
  archived_until_escalating: z.boolean(),
})
const ListQuery = z.strictObject({
  ...Page.shape,
  status: z.enum(statuses).optional(),
  level: z.enum(levels).optional(),
})

export function issueRoutes({ issues }: IssueRouteDeps): ApiRoute[] {
  return [
    route({
      method: 'get',
      path: '/api/v1/projects/:project/issues',
      summary: 'Issues of a project, most recently seen first',
      need: 'read',
      on: 'project',
      query: ListQuery,
      reply: listOf(Issue),
      handle: ({ target }, { query }) => issues.list(target.id, query),
    }),
    route({
      method: 'get',
      path: '/api/v1/issues/:issue',
      summary: 'One issue',
      need: 'read',
      on: 'issue',
      query: Nothing,
      reply: Issue,
      handle: async ({ target }) => target,
    }),
  ]
}
