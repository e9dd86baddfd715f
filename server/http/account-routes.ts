// People about themselves: set-up, sign-in, sessions, passwords, invitations.

import { z } from 'zod'
import { rightOfRole, roles } from '../access/access.ts'
import { type Accounts, emailFrom } from '../access/accounts.ts'
import { passwordLength } from '../access/passwords.ts'
import { listSessions, revokeCookie, revokeSession } from '../access/sessions.ts'
import type { Targets } from '../access/targets.ts'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { type ApiRoute, changesAccess, route } from './api.ts'
import { Done, done, Id, listOf, Name, Nothing, Role, Time } from './shapes.ts'

/** What is checked of a password here is that it can be one; what is wrong with it, where its owner is known. */
const Password = z.string().min(1).max(passwordLength.most)
const Email = z
  .string()
  .max(300)
  .refine((text) => emailFrom(text) !== null, 'an e-mail address of plain ASCII letters is needed')
  .transform((text) => emailFrom(text)!)
const LinkText = z.string().regex(/^[\w-]{43}$/, 'this is not the secret part of a link')
const Organization = z.strictObject({ id: Id, slug: z.string(), name: z.string(), role: Role })
const Me = z.strictObject({
  id: Id,
  email: z.string(),
  name: z.string(),
  organizations: z.array(Organization),
})
const Session = z.strictObject({
  id: Id,
  created_at: Time,
  last_seen_at: Time,
  expires_at: Time,
  address: z.string().nullable(),
  user_agent: z.string().nullable(),
  current: z.boolean(),
})

export interface AccountRouteDeps {
  db: Db
  accounts: Accounts
  targets: Targets
  /** The name of the OpenID Connect provider; null when there is none. */
  oidcName: string | null
  asksForSetupToken: boolean
  /** As in TenancyRouteDeps. */
  accessChanged(): void
}

export function accountRoutes(deps: AccountRouteDeps): ApiRoute[] {
  return [...signInRoutes(deps), ...personRoutes(deps)].map((row) => changesAccess(row, deps.accessChanged))
}

function signInRoutes({ db, accounts, oidcName, asksForSetupToken }: AccountRouteDeps): ApiRoute[] {
  return [
    route({
      method: 'get',
      path: '/api/v1/auth',
      summary: 'How one gets in: whether the owner has still to be made, and what sign-in there is',
      need: 'nobody',
      on: 'nothing',
      query: Nothing,
      reply: z.strictObject({
        needs_setup: z.boolean(),
        needs_setup_token: z.boolean(),
        openid_connect: z.string().nullable(),
      }),
      async handle() {
        const needs_setup = await accounts.needsSetup()
        return { needs_setup, needs_setup_token: needs_setup && asksForSetupToken, openid_connect: oidcName }
      },
    }),
    route({
      method: 'post',
      path: '/api/v1/auth/setup',
      summary: 'Make the first account; it owns what is there',
      need: 'nobody',
      on: 'nothing',
      body: z.strictObject({
        email: Email,
        name: Name,
        password: Password,
        setup_token: z.string().max(200).optional(),
      }),
      reply: Done,
      async handle({ visitor, setSession }, { body }) {
        setSession(await accounts.setUp(body, visitor))
        return done
      },
    }),
    route({
      method: 'post',
      path: '/api/v1/auth/sign-in',
      summary: 'Start a session in this browser',
      need: 'nobody',
      on: 'nothing',
      body: z.strictObject({ email: z.string().max(300), password: Password }),
      reply: Done,
      async handle({ visitor, setSession, sessionCookie }, { body }) {
        const session = await accounts.signIn(body.email, body.password, visitor)
        // Another one each time, and the old one ends: a session that somebody planted in this browser is worth nothing.
        if (sessionCookie !== '') await revokeCookie(db, sessionCookie)
        setSession(session)
        return done
      },
    }),
    route({
      method: 'post',
      path: '/api/v1/auth/sign-out',
      summary: 'End the session of this browser',
      need: 'nobody',
      on: 'nothing',
      body: Nothing,
      reply: Done,
      async handle({ setSession, sessionCookie }) {
        if (sessionCookie !== '') await revokeCookie(db, sessionCookie)
        setSession('')
        return done
      },
    }),
    route({
      method: 'post',
      path: '/api/v1/auth/reset',
      summary: 'Choose a new password with the link of a reset; all sessions of the account end',
      need: 'nobody',
      on: 'nothing',
      body: z.strictObject({ link: LinkText, password: Password }),
      reply: Done,
      async handle({ visitor, setSession }, { body }) {
        setSession(await accounts.resetPassword(body.link, body.password, visitor))
        return done
      },
    }),
    route({
      method: 'post',
      path: '/api/v1/auth/invitation',
      summary: 'What an invitation is for',
      need: 'nobody',
      on: 'nothing',
      body: z.strictObject({ link: LinkText }),
      reply: z.strictObject({
        email: z.string(),
        organization: z.string(),
        role: Role,
        has_account: z.boolean(),
      }),
      handle: (_call, { body }) => accounts.invitation(body.link),
    }),
    route({
      method: 'post',
      path: '/api/v1/auth/join',
      summary: 'Accept an invitation, with a new password or that of the account there is',
      need: 'nobody',
      on: 'nothing',
      body: z.strictObject({ link: LinkText, name: Name.optional(), password: Password }),
      reply: Done,
      async handle({ visitor, setSession }, { body }) {
        setSession(await accounts.accept(body.link, body, visitor))
        return done
      },
    }),
  ]
}

function personRoutes({ db, accounts, targets }: AccountRouteDeps): ApiRoute[] {
  return [
    route({
      method: 'get',
      path: '/api/v1/me',
      summary: 'Who is signed in, and where they are a member',
      need: 'person',
      on: 'nothing',
      query: Nothing,
      reply: Me,
      async handle({ access }) {
        const user = await accounts.find(access.user_id!)
        const organizations = await targets.organizations(access)
        return {
          ...user,
          organizations: organizations.map((organization) => ({
            ...organization,
            role: roles.find(
              (role) =>
                rightOfRole[role] ===
                access.grants.find(({ organization_id }) => organization_id === organization.id)?.right,
            )!,
          })),
        }
      },
    }),
    route({
      method: 'post',
      path: '/api/v1/me/password',
      summary: 'Change the password; every other session ends',
      need: 'person',
      on: 'nothing',
      body: z.strictObject({ current: Password, password: Password }),
      reply: Done,
      async handle({ access, visitor, setSession }, { body }) {
        setSession(await accounts.changePassword(access.user_id!, body.current, body.password, visitor))
        return done
      },
    }),
    route({
      method: 'get',
      path: '/api/v1/me/sessions',
      summary: 'Where this account is signed in',
      need: 'person',
      on: 'nothing',
      query: Nothing,
      reply: listOf(Session),
      async handle({ access }) {
        const rows = await listSessions(db, access.user_id!)
        const data = rows.map((row) => ({ ...row, current: access.credential === `session:${row.id}` }))
        return { data, next_cursor: null }
      },
    }),
    route({
      method: 'delete',
      path: '/api/v1/me/sessions/:session',
      summary: 'End one session',
      need: 'person',
      on: 'nothing',
      params: z.object({ session: Id }),
      query: Nothing,
      reply: Done,
      async handle({ access }, { params }) {
        if (!(await revokeSession(db, access.user_id!, params.session))) {
          throw new AppError('not_found', 'This account has no such session')
        }
        return done
      },
    }),
  ]
}
