// Sign-in with an OpenID Connect provider: authorization code with PKCE, by openid-client. Who may come in is decided here: whom
// the provider was known for before, whose verified address has an account or an invitation, and everybody of the domains that
// the configuration names.

import { sql } from 'kysely'
import type { Configuration } from 'openid-client'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { createUser, emailFrom, type User } from './accounts.ts'
import { recordAudit } from './audit.ts'
import { createSession, type Visitor } from './sessions.ts'

export interface OpenIdConfig {
  issuer: string
  clientId: string
  clientSecret: string
  /** What the button says. */
  name: string
  /** Lower case; people with a verified address there become members of the first organization. */
  domains: string[]
}

/** What the browser keeps while its user is at the provider. */
export interface Pending {
  state: string
  nonce: string
  verifier: string
}

export interface OpenId {
  /** Where to send the browser. Throws unavailable when the provider cannot be asked. */
  begin(redirectUri: string): Promise<{ url: string; pending: Pending }>
  /** Returns a session. Throws unauthenticated when the provider's answer is not for this browser, forbidden for strangers. */
  finish(answer: URL, pending: Pending, visitor: Visitor): Promise<string>
}

/** Loaded with the first sign-in: most servers have no provider. */
const library = () => import('openid-client')

export function createOpenId(db: Db, { issuer, clientId, clientSecret, domains }: OpenIdConfig): OpenId {
  let discovered: Promise<Configuration> | undefined

  /** Asked for when somebody first signs in: a provider that is away does not keep this server from starting. */
  function provider(): Promise<Configuration> {
    discovered ??= discover().catch((cause) => {
      discovered = undefined
      throw new AppError('unavailable', 'The sign-in provider does not answer: try again', { cause, retryAfter: 5 })
    })
    return discovered
  }

  async function discover(): Promise<Configuration> {
    const { allowInsecureRequests, discovery } = await library()
    const execute = issuer.startsWith('http:') ? [allowInsecureRequests] : []
    return discovery(new URL(issuer), clientId, clientSecret, undefined, { timeout: 10, execute })
  }

  return {
    async begin(redirectUri) {
      const oidc = await library()
      const configuration = await provider()
      const pending = {
        state: oidc.randomState(),
        nonce: oidc.randomNonce(),
        verifier: oidc.randomPKCECodeVerifier(),
      }
      const url = oidc.buildAuthorizationUrl(configuration, {
        redirect_uri: redirectUri,
        scope: 'openid email profile',
        state: pending.state,
        nonce: pending.nonce,
        code_challenge: await oidc.calculatePKCECodeChallenge(pending.verifier),
        code_challenge_method: 'S256',
      })
      return { url: url.href, pending }
    },

    async finish(answer, pending, visitor) {
      const configuration = await provider()
      const claims = await claimsFrom(configuration, answer, pending)
      return db.transaction().execute(async (trx) => {
        const user = await userFrom(trx, claims, domains, visitor)
        return createSession(trx, user.id, visitor)
      })
    },
  }
}

interface Claims {
  issuer: string
  subject: string
  /** Null unless the provider says that it is verified. */
  email: string | null
  name: string | null
}

async function claimsFrom(configuration: Configuration, answer: URL, pending: Pending): Promise<Claims> {
  const oidc = await library()
  try {
    const tokens = await oidc.authorizationCodeGrant(configuration, answer, {
      expectedState: pending.state,
      expectedNonce: pending.nonce,
      pkceCodeVerifier: pending.verifier,
      idTokenExpected: true,
    })
    const { iss, sub } = tokens.claims()!
    const more = configuration.serverMetadata().userinfo_endpoint
      ? await oidc.fetchUserInfo(configuration, tokens.access_token, sub)
      : {}
    const { email, email_verified, name }: Record<string, unknown> = { ...tokens.claims(), ...more }
    const isVerified = email_verified === true || email_verified === 'true'
    return {
      issuer: iss,
      subject: sub,
      email: typeof email === 'string' && isVerified ? emailFrom(email) : null,
      name: typeof name === 'string' && name.trim() !== '' ? name.trim().replaceAll('\0', '').slice(0, 200) : null,
    }
  } catch (cause) {
    throw new AppError('unauthenticated', 'The sign-in was not completed: begin it anew', { cause })
  }
}

async function userFrom(trx: Db, claims: Claims, domains: string[], visitor: Visitor): Promise<User> {
  const known = await trx
    .selectFrom('user_identities')
    .innerJoin('users', 'users.id', 'user_identities.user_id')
    .select(['users.id', 'email', 'name', 'disabled_at'])
    .where('issuer', '=', claims.issuer)
    .where('subject', '=', claims.subject)
    .executeTakeFirst()
  if (known) {
    if (known.disabled_at !== null) throw stranger()
    return known
  }
  if (claims.email === null) throw stranger()
  const user = (await withAddress(trx, claims.email)) ?? (await admit(trx, claims.email, claims.name, domains, visitor))
  await trx
    .insertInto('user_identities')
    .values({ issuer: claims.issuer, subject: claims.subject, user_id: user.id })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  return user
}

async function withAddress(trx: Db, email: string): Promise<User | null> {
  const user = await trx
    .selectFrom('users')
    .select(['id', 'email', 'name', 'disabled_at'])
    .where('email', '=', email)
    .executeTakeFirst()
  if (!user) return null
  if (user.disabled_at !== null) throw stranger()
  return user
}

/** By an open invitation, else by the domain of the address. */
async function admit(
  trx: Db,
  email: string,
  name: string | null,
  domains: string[],
  { address }: Visitor,
): Promise<User> {
  const invitations = await trx
    .updateTable('one_time_links')
    .set({ used_at: sql<Date>`now()` })
    .where('purpose', '=', 'invite')
    .where('email', '=', email)
    .where('used_at', 'is', null)
    .where('expires_at', '>', sql<Date>`now()`)
    .returning(['organization_id', 'role'])
    .execute()
  const places = invitations.map(({ organization_id, role }) => ({ organization_id: organization_id!, role: role! }))
  if (places.length === 0 && domains.includes(email.slice(email.lastIndexOf('@') + 1))) {
    const first = await trx.selectFrom('organizations').select('id').orderBy('id').limit(1).executeTakeFirstOrThrow()
    places.push({ organization_id: first.id, role: 'member' })
  }
  if (places.length === 0) throw stranger()
  const user = await createUser(trx, { email, name: name ?? email, password_hash: null })
  for (const { organization_id, role } of places) {
    await trx.insertInto('memberships').values({ organization_id, user_id: user.id, role }).execute()
    await recordAudit(trx, {
      organization_id,
      actor: email,
      action: 'member.join',
      target: email,
      data: { role },
      address,
    })
  }
  return user
}

const stranger = () =>
  new AppError('forbidden', 'Nobody here knows this account: ask to be invited with its e-mail address')
