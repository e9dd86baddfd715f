// Organizations, their members and tokens; projects and their keys; the audit log.

import { z } from 'zod'
import { listAudit } from '../access/audit.ts'
import type { Targets } from '../access/targets.ts'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import * as members from '../tenancy/members.ts'
import * as organizations from '../tenancy/organizations.ts'
import * as projects from '../tenancy/projects.ts'
import * as tokens from '../tenancy/tokens.ts'
import { type ApiRoute, type Call, changesAccess, route, type Target } from './api.ts'
import { Done, done, Id, listOf, Name, Nothing, Page, Role, Scope, Slug, Time } from './shapes.ts'

const Organization = z.strictObject({ id: Id, slug: z.string(), name: z.string() })
const Project = z.strictObject({ id: Id, slug: z.string(), name: z.string(), organization_id: Id })
const ProjectSettings = z.strictObject({
  ...Project.shape,
  platform: z.string().nullable(),
  retention_days: z.number(),
  created_at: Time,
})
const Member = z.strictObject({
  user_id: Id,
  email: z.string(),
  name: z.string(),
  role: Role,
  created_at: Time,
})
const Invitation = z.strictObject({
  id: Id,
  email: z.string(),
  role: Role,
  created_by: z.string(),
  created_at: Time,
  expires_at: Time,
})
const Key = z.strictObject({
  public_key: z.string(),
  dsn: z.string(),
  label: z.string(),
  created_at: Time,
  created_by: z.string(),
  last_used_at: Time.nullable(),
  revoked_at: Time.nullable(),
})
const Token = z.strictObject({
  id: Id,
  name: z.string(),
  /** The first characters. */
  hint: z.string(),
  scope: Scope,
  project_id: Id.nullable(),
  created_by: z.string(),
  created_at: Time,
  last_used_at: Time.nullable(),
  expires_at: Time.nullable(),
})
const AuditEntry = z.strictObject({
  id: Id,
  actor: z.string(),
  action: z.string(),
  target: z.string(),
  data: z.record(z.string(), z.unknown()).nullable(),
  address: z.string().nullable(),
  created_at: Time,
})
const Platform = z
  .string()
  .trim()
  .min(1)
  .max(64)
  .regex(/^[\w .#+-]+$/, 'a platform is a word such as node or python')
const RetentionDays = z.number().int().min(1).max(3650)
const PublicKey = z.string().regex(/^[0-9a-f]{32}$/, 'a key has 32 hex digits')
const ProjectChange = z
  .strictObject({
    slug: Slug,
    name: Name,
    platform: Platform.nullable(),
    retention_days: RetentionDays,
  })
  .partial()
const changesSomething = (change: object) => Object.keys(change).length > 0
const saysNothing = { error: 'name at least one thing to change' }

const by = ({ access, visitor }: Call<Target>) => ({ actor: access.actor, address: visitor.address })
const whole = <T>(data: T[]) => ({ data, next_cursor: null })

export interface TenancyRouteDeps {
  db: Db
  targets: Targets
  /** Who may do what has changed: here it holds at once, elsewhere when the database has told. */
  accessChanged(): void
}

export function tenancyRoutes({ db, targets, accessChanged }: TenancyRouteDeps): ApiRoute[] {
  const rows = [
    ...organizationRoutes(db, targets),
    ...memberRoutes(db),
    ...projectRoutes(db, targets),
    ...tokenRoutes(db),
  ]
  return rows.map((row) => changesAccess(row, accessChanged))
}

function organizationRoutes(db: Db, targets: Targets): ApiRoute[] {
  return [
    route({
      method: 'get',
      path: '/api/v1/organizations',
      summary: 'Organizations that the caller may see',
      need: 'anybody',
      on: 'nothing',
      query: Nothing,
      reply: listOf(Organization),
      handle: async ({ access }) => whole(await targets.organizations(access)),
    }),
    route({
      method: 'post',
      path: '/api/v1/organizations',
      summary: 'Make an organization; whoever makes it owns it. For owners of another one',
      need: 'person',
      on: 'nothing',
      status: 201,
      body: z.strictObject({ slug: Slug, name: Name }),
      reply: Organization,
      handle(call, { body }) {
        if (!call.access.grants.some(({ right }) => right === 'owner')) {
          throw new AppError('forbidden', 'Only somebody who owns an organization makes another one')
        }
        return organizations.createOrganization(db, by(call), call.access.user_id!, body)
      },
    }),
    route({
      method: 'get',
      path: '/api/v1/organizations/:organization',
      summary: 'One organization',
      need: 'read',
      on: 'organization',
      query: Nothing,
      reply: Organization,
      handle: async ({ target }) => target,
    }),
    route({
      method: 'patch',
      path: '/api/v1/organizations/:organization',
      summary: 'Change the name or slug of an organization',
      need: 'owner',
      on: 'organization',
      body: z.strictObject({ slug: Slug, name: Name }).partial().refine(changesSomething, saysNothing),
      reply: Organization,
      handle: (call, { body }) => organizations.changeOrganization(db, by(call), call.target, body),
    }),
    route({
      method: 'delete',
      path: '/api/v1/organizations/:organization',
      summary: 'Delete an organization that has no projects any more',
      need: 'owner',
      on: 'organization',
      query: Nothing,
      reply: Done,
      async handle(call) {
        await organizations.deleteOrganization(db, by(call), call.target)
        return done
      },
    }),
    route({
      method: 'get',
      path: '/api/v1/organizations/:organization/audit',
      summary: 'Who changed who may do what, the latest first',
      need: 'admin',
      on: 'organization',
      query: z.strictObject({ limit: Page.shape.limit, cursor: Id.optional() }),
      reply: listOf(AuditEntry),
      handle: ({ target }, { query }) => listAudit(db, target.id, query),
    }),
  ]
}

function memberRoutes(db: Db): ApiRoute[] {
  const organized = ({ target, right }: Call<'organization'>) => ({ organization_id: target.id, right })
  return [
    route({
      method: 'get',
      path: '/api/v1/organizations/:organization/members',
      summary: 'Members of an organization',
      need: 'read',
      on: 'organization',
      query: Nothing,
      reply: listOf(Member),
      handle: async ({ target }) => whole(await members.listMembers(db, target.id)),
    }),
    route({
      method: 'patch',
      path: '/api/v1/organizations/:organization/members/:user',
      summary: 'Change the role of a member',
      need: 'admin',
      on: 'organization',
      params: z.object({ user: Id }),
      body: z.strictObject({ role: Role }),
      reply: Member,
      handle: (call, { params, body }) => members.setRole(db, by(call), organized(call), params.user, body.role),
    }),
    route({
      method: 'delete',
      path: '/api/v1/organizations/:organization/members/:user',
      summary: 'Remove a member; their open streams of this organization close',
      need: 'admin',
      on: 'organization',
      params: z.object({ user: Id }),
      query: Nothing,
      reply: Done,
      async handle(call, { params }) {
        await members.removeMember(db, by(call), organized(call), params.user)
        return done
      },
    }),
    route({
      method: 'get',
      path: '/api/v1/organizations/:organization/invitations',
      summary: 'Invitations that are open',
      need: 'admin',
      on: 'organization',
      query: Nothing,
      reply: listOf(Invitation),
      handle: async ({ target }) => whole(await members.listInvitations(db, target.id)),
    }),
    route({
      method: 'post',
      path: '/api/v1/organizations/:organization/invitations',
      summary: 'Invite somebody; the link is shown once, and replaces an earlier one',
      need: 'admin',
      on: 'organization',
      status: 201,
      body: z.strictObject({ email: z.string().max(300), role: Role.default('member') }),
      reply: z.strictObject({ id: Id, email: z.string(), role: Role, link: z.string() }),
      async handle(call, { body }) {
        const { text, ...invitation } = await members.invite(db, by(call), organized(call), body)
        return { ...invitation, link: `${call.baseUrl}/#/join/${text}` }
      },
    }),
    route({
      method: 'delete',
      path: '/api/v1/organizations/:organization/invitations/:invitation',
      summary: 'Withdraw an invitation',
      need: 'admin',
      on: 'organization',
      params: z.object({ invitation: Id }),
      query: Nothing,
      reply: Done,
      async handle(call, { params }) {
        await members.withdrawInvitation(db, by(call), call.target.id, params.invitation)
        return done
      },
    }),
  ]
}

function projectRoutes(db: Db, targets: Targets): ApiRoute[] {
  const withDsn =
    ({ baseUrl, target }: Call<'project'>) =>
    <K extends { public_key: string }>(key: K) => {
      const dsn = new URL(`${baseUrl}/${target.id}`)
      dsn.username = key.public_key
      return { ...key, dsn: dsn.href }
    }
  return [
    route({
      method: 'get',
      path: '/api/v1/projects',
      summary: 'Projects that the caller may see',
      need: 'anybody',
      on: 'nothing',
      query: Nothing,
      reply: listOf(Project),
      handle: async ({ access }) => whole(await targets.projects(access)),
    }),
    route({
      method: 'post',
      path: '/api/v1/organizations/:organization/projects',
      summary: 'Make a project, with a first key',
      need: 'admin',
      on: 'organization',
      status: 201,
      body: z.strictObject({ slug: Slug, name: Name, platform: Platform.nullish() }),
      reply: ProjectSettings,
      handle: (call, { body }) => projects.createProject(db, by(call), call.target.id, body),
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project',
      summary: 'One project and its settings',
      need: 'read',
      on: 'project',
      query: Nothing,
      reply: ProjectSettings,
      handle: ({ target }) => projects.findProject(db, target.id),
    }),
    route({
      method: 'patch',
      path: '/api/v1/projects/:project',
      summary: 'Change the settings of a project',
      need: 'admin',
      on: 'project',
      body: ProjectChange.refine(changesSomething, saysNothing),
      reply: ProjectSettings,
      handle: (call, { body }) => projects.changeProject(db, by(call), call.target, body),
    }),
    route({
      method: 'delete',
      path: '/api/v1/projects/:project',
      summary: 'Delete a project with its issues, events and keys',
      need: 'admin',
      on: 'project',
      query: Nothing,
      reply: Done,
      async handle(call) {
        await projects.deleteProject(db, by(call), call.target)
        return done
      },
    }),
    route({
      method: 'get',
      path: '/api/v1/projects/:project/keys',
      summary: 'DSN keys of a project, also those that were revoked',
      need: 'read',
      on: 'project',
      query: Nothing,
      reply: listOf(Key),
      handle: async (call) => whole((await projects.listKeys(db, call.target.id)).map(withDsn(call))),
    }),
    route({
      method: 'post',
      path: '/api/v1/projects/:project/keys',
      summary: 'Make a DSN key',
      need: 'admin',
      on: 'project',
      status: 201,
      body: z.strictObject({ label: Name }),
      reply: Key,
      handle: async (call, { body }) => withDsn(call)(await projects.createKey(db, by(call), call.target, body.label)),
    }),
    route({
      method: 'patch',
      path: '/api/v1/projects/:project/keys/:key',
      summary: 'Label a DSN key',
      need: 'admin',
      on: 'project',
      params: z.object({ key: PublicKey }),
      body: z.strictObject({ label: Name }),
      reply: Key,
      handle: async (call, { params, body }) =>
        withDsn(call)(await projects.changeKey(db, by(call), call.target, params.key, body.label)),
    }),
    route({
      method: 'delete',
      path: '/api/v1/projects/:project/keys/:key',
      summary: 'Revoke a DSN key for good; its open sockets close',
      need: 'admin',
      on: 'project',
      params: z.object({ key: PublicKey }),
      query: Nothing,
      reply: Done,
      async handle(call, { params }) {
        await projects.revokeKey(db, by(call), call.target, params.key)
        return done
      },
    }),
  ]
}

function tokenRoutes(db: Db): ApiRoute[] {
  return [
    route({
      method: 'get',
      path: '/api/v1/organizations/:organization/tokens',
      summary: 'API tokens of an organization, masked',
      need: 'admin',
      on: 'organization',
      query: Nothing,
      reply: listOf(Token),
      handle: async ({ target }) => whole(await tokens.listTokens(db, target.id)),
    }),
    route({
      method: 'post',
      path: '/api/v1/organizations/:organization/tokens',
      summary: 'Make an API token; it is shown once',
      need: 'admin',
      on: 'organization',
      status: 201,
      body: z.strictObject({
        name: Name,
        scope: Scope,
        project_id: Id.nullable().default(null),
        expires_at: z.iso
          .datetime({ offset: true })
          .transform((text) => new Date(text))
          .nullable()
          .default(null),
      }),
      reply: z.strictObject({ ...Token.shape, token: z.string() }),
      async handle(call, { body }) {
        const { text, ...token } = await tokens.makeToken(db, by(call), call.target.id, body)
        return { ...token, token: text }
      },
    }),
    route({
      method: 'delete',
      path: '/api/v1/organizations/:organization/tokens/:token',
      summary: 'Revoke an API token; its open streams close',
      need: 'admin',
      on: 'organization',
      params: z.object({ token: Id }),
      query: Nothing,
      reply: Done,
      async handle(call, { params }) {
        await tokens.revokeToken(db, by(call), call.target.id, params.token)
        return done
      },
    }),
  ]
}
