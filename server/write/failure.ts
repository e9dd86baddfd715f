// What a failed batch means, by SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html):
//   away     PostgreSQL cannot be reached or take writes just now: keep the events, try again until the grace ends
//   retry    nobody's fault: write the same batch again
//   blocked  somebody holds a lock longer than lock_timeout
//   data     one of the events cannot be stored: bisect
//   no_partition  the day has no partition: make it, write again
//   no_project    the project was deleted
//   unknown  a fault of Mesher or its schema

import { hasState } from '../db/pool.ts'

export type Failure = 'away' | 'retry' | 'blocked' | 'data' | 'no_partition' | 'no_project' | 'unknown'

const retry = new Set(['40001', '40P01', 'MS001', 'MS004'])
const awayClasses = new Set(['08', '53', '57', '58'])
const dataClasses = new Set(['22', '23', '54'])

export function failureOf(error: unknown): Failure {
  // A fault of this program, not of the connection.
  if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) return 'unknown'
  // Refused, reset, timed out, ended.
  if (!hasState(error)) return 'away'
  // `file` is one of PostgreSQL's sources.
  const { code, constraint, file } = error as { code: string; constraint?: string; file?: string }
  if (code === '55P03') return 'blocked'
  if (code === 'MS002') return 'no_project'
  if (retry.has(code)) return 'retry'
  if (code === '23514' && constraint === undefined) return 'no_partition'
  // The notification queue is full, because somebody who listens does not read; a row too large for an index is 54000, too.
  if (code === '54000' && file === 'async.c') return 'away'
  // 25006: a standby after failover; 25P03 ends a transaction that a frozen process did not go on with; 57014 is a statement
  // that was cancelled by hand.
  if (code === '25006' || code === '25P03' || awayClasses.has(code.slice(0, 2))) return 'away'
  if (dataClasses.has(code.slice(0, 2))) return 'data'
  return 'unknown'
}
