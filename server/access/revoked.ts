// What was revoked while nobody listened: notifications of that time are lost, so the tables are asked about what is in use.

import type { Db } from '../db/pool.ts'

export interface InUse {
  tokens: string[]
  keys: string[]
}

/** Those that are revoked, or gone. */
export async function findRevoked(db: Db, { tokens, keys }: InUse): Promise<InUse> {
  const validTokens = new Set<string>()
  const validKeys = new Set<string>()
  if (tokens.length > 0) {
    const rows = await db
      .selectFrom('api_tokens')
      .select('id')
      .where('id', 'in', tokens)
      .where('revoked_at', 'is', null)
      .execute()
    for (const { id } of rows) validTokens.add(id)
  }
  if (keys.length > 0) {
    const rows = await db
      .selectFrom('project_keys')
      .select('public_key')
      .where('public_key', 'in', keys)
      .where('revoked_at', 'is', null)
      .execute()
    for (const { public_key } of rows) validKeys.add(public_key)
  }
  return { tokens: tokens.filter((id) => !validTokens.has(id)), keys: keys.filter((key) => !validKeys.has(key)) }
}
