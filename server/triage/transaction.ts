// One action of a person as one transaction: who acts is told to the triggers, somebody's lock is not waited for without
// end, and what PostgreSQL ended as a deadlock is tried again.

import { AppError } from '../errors.ts'

const lockNotAvailable = '55P03'
const tryAgain = new Set(['40P01', '40001'])

/** The first statements of the transaction. */
export const lockTimeout = "set local lock_timeout = '5s'"

/** `attempt` does all of it, from begin to commit. Throws conflict while somebody's open transaction holds what it needs. */
export async function actAgain<T>(attempt: () => Promise<T>): Promise<T> {
  for (let n = 1; ; n += 1) {
    try {
      return await attempt()
    } catch (error) {
      const code = (error as { code?: unknown }).code
      if (code === lockNotAvailable) {
        throw new AppError(
          'conflict',
          'An open transaction in the database holds this issue: try again when it has ended',
          { cause: error },
        )
      }
      if (typeof code !== 'string' || !tryAgain.has(code) || n === 5) throw error
    }
  }
}
