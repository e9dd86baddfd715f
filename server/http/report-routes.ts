// What SDKs and people report beside events: feedback, and what SDKs threw away.

import { z } from 'zod'
import type { ClientReports } from '../read/client-reports.ts'
import type { FeedbackReader } from '../read/feedback.ts'
import { type ApiRoute, route } from './api.ts'
import { Id, listOf, Page, Time } from './shapes.ts'

export interface ReportRouteDeps {
  feedback: FeedbackReader
  clientReports: ClientReports
}

const Feedback = z.strictObject({
  /** 32 hex. */
  id: z.string(),
  project_id: Id,
  issue_id: Id.nullable(),
  event_id: z.string().nullable(),
  name: z.string().nullable(),
  email: z.string().nullable(),
  message: z.string(),
  url: z.string().nullable(),
  received_at: Time,
})
const ClientReport = z.strictObject({
  reason: z.string(),
  category: z.string(),
  quantity: z.number(),
  last_hour: Time,
})
const Moment = z.iso.datetime({ offset: true }).transform((text) => new Date(text))
const Range = z.strictObject({ since: Moment.optional(), until: Moment.optional() })

export function reportRoutes({ feedback, clientReports }: ReportRouteDeps): ApiRoute[] {
  return [
    route({
      method: 'get',
      path: '/api/v1/issues/:issue/feedback',
      summary: 'What people wrote about events of an issue, the latest first',
      need: 'read',
      on: 'issue',
      query: Page,
      reply: listOf(Feedback),
      handle: ({ target }, { query }) => feedback.list({ project_id: target.project_id, issue_id: target.id }, query),
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project/feedback',
      summary: 'What people wrote, about an event or without one, the latest first',
      need: 'read',
      on: 'project',
      query: Page,
      reply: listOf(Feedback),
      handle: ({ target }, { query }) => feedback.list({ project_id: target.id }, query),
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project/client-reports',
      summary: 'What SDKs threw away between two hours (the last 24 by default), by reason and category',
      need: 'read',
      on: 'project',
      query: Range,
      reply: listOf(ClientReport),
      handle: async ({ target }, { query }) => ({
        data: await clientReports.sums(target.id, query),
        next_cursor: null,
      }),
    }),
  ]
}
