// Who asks, and what they may do. A token stands for one organization, a session for every organization that its user is a
// member of. Rights are steps of one ladder; each includes those below it.

export const rights = ['read', 'write', 'admin', 'owner'] as const
/** read: see. write: act on issues. admin: projects, keys, tokens, members. owner: other owners, the organization itself. */
export type Right = (typeof rights)[number]

export const roles = ['member', 'admin', 'owner'] as const
export type Role = (typeof roles)[number]
export const scopes = ['read', 'write', 'admin'] as const
export type Scope = (typeof scopes)[number]

export const rightOfRole = { member: 'write', admin: 'admin', owner: 'owner' } as const satisfies Record<Role, Right>

export interface Access {
  /** What a revocation ends: `token:12` or `session:34`. */
  credential: string
  /** Told to others with every change: `token:<name>` or the user's e-mail address. */
  actor: string
  /** Null for a token: it is nobody's. */
  user_id: string | null
  grants: Grant[]
  /** A token of one project sees no other. */
  only_project_id: string | null
}

export interface Grant {
  organization_id: string
  right: Right
}

export const includes = (has: Right, needed: Right): boolean => rights.indexOf(has) >= rights.indexOf(needed)

/** Null: whoever asks does not know that this organization exists. */
export function rightIn(access: Access, organizationId: string): Right | null {
  return access.grants.find((grant) => grant.organization_id === organizationId)?.right ?? null
}
