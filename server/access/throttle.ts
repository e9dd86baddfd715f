// Whoever fails to sign in often has to wait, by account and by address, in every process alike. Ten failures of an account
// within a quarter of an hour are free, then each doubles the wait, up to a quarter of an hour; an address has fifty. An
// attempt counts as failed until it has succeeded, so that a thousand at once count as a thousand.

import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'

const window = 15 * 60
const free = { account: 10, address: 50 }
type Kind = keyof typeof free

export interface Throttle {
  /** Counts an attempt; throws rate_limited, also for accounts that do not exist. */
  begin(email: string, address: string): Promise<void>
  /** The account's failures are forgotten; of the address's only this one: who knows one password may be guessing others. */
  succeeded(email: string, address: string): Promise<void>
}

export function createThrottle(db: Db): Throttle {
  const keyOf = (kind: Kind, text: string) => createHash('sha256').update(`${kind} ${text}`).digest()

  /** Seconds that are left to wait; an attempt during the wait does not prolong it. */
  async function attempt(kind: Kind, text: string): Promise<number> {
    const { rows } = await sql<{ wait: number }>`
      insert into sign_in_failures as f (key, failures) values (${keyOf(kind, text)}, 1)
      on conflict (key) do update set
        failures = case when f.last_at < now() - make_interval(secs => ${window}) then 1 else f.failures + 1 end,
        last_at = now()
        where f.failures < ${free[kind]}
           or f.last_at < now() - make_interval(secs => least(${window}, 2 ^ least(f.failures - ${free[kind]}, 20)))
      returning 0 as wait`.execute(db)
    if (rows.length > 0) return 0
    const row = await db
      .selectFrom('sign_in_failures')
      .select(['failures', sql<number>`extract(epoch from now() - last_at)::float8`.as('ago')])
      .where('key', '=', keyOf(kind, text))
      .executeTakeFirst()
    return row ? Math.max(1, Math.min(window, 2 ** (row.failures - free[kind])) - row.ago) : 1
  }

  return {
    async begin(email, address) {
      const left = (await attempt('address', address)) || (await attempt('account', email))
      if (left === 0) return
      throw new AppError('rate_limited', 'Too many sign-ins have failed: wait before you try again', {
        retryAfter: Math.ceil(left),
      })
    },
    async succeeded(email, address) {
      await db.deleteFrom('sign_in_failures').where('key', '=', keyOf('account', email)).execute()
      await db
        .updateTable('sign_in_failures')
        .set({ failures: sql<number>`greatest(failures - 1, 0)` })
        .where('key', '=', keyOf('address', address))
        .execute()
    },
  }
}
