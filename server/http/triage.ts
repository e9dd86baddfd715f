// What people do with issues through the API.

import { z } from 'zod'
import type { Access } from '../access/tokens.ts'
import type { IssueSummary } from '../protocol.ts'
import { type Act, type IssueActionName, issueActions } from '../triage/issues.ts'
import type { Merges } from '../triage/merge.ts'
import { type ApiRoute, route } from './api.ts'

export interface TriageDeps {
  /** Throws not_found for an issue that this access may not see. */
  issueOf(access: Access, id: string): Promise<IssueSummary>
  act(action: IssueActionName, act: Act): Promise<number>
  merges: Merges
}

export const Id = z.string().regex(/^[1-9][0-9]{0,17}$/, 'an id is a positive number')
export const IssueParams = z.object({ id: Id })
export const Nothing = z.strictObject({})
/** PostgreSQL takes no NUL in text. */
const Name = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .refine((text) => !text.includes('\0'), 'a name holds no NUL')
const Assign = z.strictObject({ assigned_to: Name.nullable() })
const Archive = z.strictObject({
  until: z
    .union(
      [
        z.literal(['forever', 'escalating']),
        z.iso.datetime({ offset: true }),
        z.strictObject({ events: z.int().min(1).max(1_000_000_000) }),
      ],
      '"forever", "escalating", a time as in 2030-01-31T12:00:00Z, or {"events": 100}',
    )
    .default('forever'),
})
const Merge = z.strictObject({ issue_ids: z.array(Id).min(1).max(100) })
const Unmerge = z.union(
  [
    z.strictObject({
      hashes: z
        .array(z.string().regex(/^[0-9a-f]{32}$/))
        .min(1)
        .max(1000),
    }),
    z.strictObject({ issue_id: Id }),
  ],
  'give {"hashes": […]} of this issue, or {"issue_id": "…"} of one that was merged into it',
)

const bodyOf: Record<IssueActionName, z.ZodType<Pick<Act, 'assigned_to' | 'until'>>> = {
  resolve: Nothing,
  unresolve: Nothing,
  archive: Archive,
  discard: Nothing,
  assign: Assign,
  delete: Nothing,
}

export function triageRoutes({ issueOf, act, merges }: TriageDeps): ApiRoute[] {
  async function subjectOf(access: Access, id: string) {
    const issue = await issueOf(access, id)
    return { project_id: issue.project_id, issue_id: issue.id, actor: `token:${access.token_name}` }
  }

  const actions = issueActions.map((action) =>
    route({
      method: 'post',
      path: `/api/v1/issues/:id/${action}`,
      summary: `${action} one issue`,
      params: IssueParams,
      body: bodyOf[action],
      async handle(access, { params, body }) {
        const affected = await act(action, { ...(await subjectOf(access, params.id)), ...body })
        return { status: 'ok', affected }
      },
    }),
  )

  return [
    ...actions,
    route({
      method: 'post',
      path: '/api/v1/issues/:id/merge',
      summary: 'Merge other issues into this one',
      params: IssueParams,
      body: Merge,
      async handle(access, { params, body }) {
        const affected = await merges.merge(await subjectOf(access, params.id), body.issue_ids)
        return { status: 'ok', affected }
      },
    }),
    route({
      method: 'post',
      path: '/api/v1/issues/:id/unmerge',
      summary: 'Take hashes, or all that came with a merged issue, out of this one; issue_id has them then',
      params: IssueParams,
      body: Unmerge,
      async handle(access, { params, body }) {
        const issue_id = await merges.unmerge(await subjectOf(access, params.id), body)
        return { status: 'ok', affected: 1, issue_id }
      },
    }),
  ]
}
