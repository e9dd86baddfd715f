// Why grouped here?

import { z } from 'zod'
import { AppError } from '../errors.ts'
import type { Groupings } from '../read/grouping.ts'
import { type ApiRoute, route } from './api.ts'
import { Id, listOf, Nothing, Page, Time } from './shapes.ts'

const Hash = z.strictObject({
  /** 32 hex. */
  hash: z.string(),
  issue_id: Id,
  algo: z.string().nullable(),
  /** What was hashed. */
  components: z.unknown(),
  explanation: z.string(),
  created_at: Time,
})
const EventParams = z.object({
  event: z
    .string()
    .regex(/^[0-9a-fA-F]{32}$|^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/, 'an event id is 32 hex digits'),
})

export function groupingRoutes({ groupings }: { groupings: Groupings }): ApiRoute[] {
  return [
    route({
      method: 'get',
      path: '/api/v1/issues/:issue/hashes',
      summary: 'What makes events belong to an issue',
      need: 'read',
      on: 'issue',
      query: Page,
      reply: listOf(Hash),
      handle: ({ target }, { query }) => groupings.hashes(target.project_id, target.id, query),
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project/events/:event/grouping',
      summary: 'Why an event belongs to its issue',
      need: 'read',
      on: 'project',
      params: EventParams,
      query: Nothing,
      reply: z.strictObject({ event_id: z.string(), issue_id: Id, hash: Hash.nullable() }),
      async handle({ target }, { params }) {
        const grouping = await groupings.ofEvent(target.id, params.event)
        if (!grouping) throw new AppError('not_found', 'There is no such event in this project')
        return grouping
      },
    }),
  ]
}
