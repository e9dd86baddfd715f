// What people do with issues through the API.

import { z } from 'zod'
import { type Act, type IssueActionName, issueActions } from '../triage/issues.ts'
import type { Merges } from '../triage/merge.ts'
import { type ApiRoute, type Call, route } from './api.ts'
import { Id, Name, Nothing } from './shapes.ts'

export interface TriageDeps {
  act(action: IssueActionName, act: Act): Promise<number>
  merges: Merges
}

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

const Affected = z.strictObject({ status: z.literal('ok'), affected: z.number() })

const subjectOf = ({ access, target }: Call<'issue'>) => ({
  project_id: target.project_id,
  issue_id: target.id,
  actor: access.actor,
})

export function triageRoutes({ act, merges }: TriageDeps): ApiRoute[] {
  const actions = issueActions.map((action) =>
    route({
      method: 'post',
      path: `/api/v1/issues/:issue/${action}`,
      summary: `${action} one issue`,
      need: 'write',
      on: 'issue',
      body: bodyOf[action],
      reply: Affected,
      handle: async (call, { body }) => ({
        status: 'ok',
        affected: await act(action, { ...subjectOf(call), ...body }),
      }),
    }),
  )

  return [
    ...actions,
    route({
      method: 'post',
      path: '/api/v1/issues/:issue/merge',
      summary: 'Merge other issues into this one',
      need: 'write',
      on: 'issue',
      body: Merge,
      reply: Affected,
      handle: async (call, { body }) => ({
        status: 'ok',
        affected: await merges.merge(subjectOf(call), body.issue_ids),
      }),
    }),
    route({
      method: 'post',
      path: '/api/v1/issues/:issue/unmerge',
      summary: 'Take hashes, or all that came with a merged issue, out of this one; issue_id has them then',
      need: 'write',
      on: 'issue',
      body: Unmerge,
      reply: z.strictObject({ ...Affected.shape, issue_id: Id }),
      handle: async (call, { body }) => ({
        status: 'ok',
        affected: 1,
        issue_id: await merges.unmerge(subjectOf(call), body),
      }),
    }),
  ]
}
