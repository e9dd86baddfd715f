// Connections to PostgreSQL. Each use has its application_name, so that pg_stat_activity tells who is who.

import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely'
import pg from 'pg'
import { AppError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { DB } from './schema.ts'
import type { ConnectionWatch } from './watch.ts'

export type Db = Kysely<DB>

/** Settings of every connection: dead peers are noticed, a hung connect ends. Milliseconds. */
export function connectionConfig(databaseUrl: string, applicationName: string): pg.ClientConfig {
  return {
    connectionString: databaseUrl,
    application_name: applicationName,
    // Long, for a machine without a free core: who gave up sooner would try again, and have more to do.
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  }
}

export interface PoolOptions {
  applicationName?: string
  max?: number
  /** Milliseconds that a statement may take. */
  timeout?: number
  /** Gives up connections that the network swallowed. */
  watch?: ConnectionWatch
}

/** For people's queries and housekeeping; the writers and the listener have connections of their own. */
export function createPool(
  databaseUrl: string,
  log: Log,
  { applicationName = 'mesher', max = 6, timeout = 30_000, watch }: PoolOptions = {},
): pg.Pool {
  const pool = new pg.Pool({
    ...connectionConfig(databaseUrl, applicationName),
    max,
    idleTimeoutMillis: 30_000,
    statement_timeout: timeout,
    // Who is not even told of the time-out is cut off from the database.
    query_timeout: timeout + Math.min(timeout, 5_000),
    ...(watch ? { onConnect: watch.introduce } : {}),
  })
  if (watch) {
    pool.on('acquire', watch.busy)
    pool.on('release', (_, client) => watch.idle(client))
    pool.on('remove', watch.idle)
  }
  // An idle connection that dies is replaced by the pool at the next query; without a listener it would end the process.
  pool.on('error', (error) => log.warn('pool.connection_lost', { error: error.message }))
  // While a connection is lent the pool does not listen: one that dies between two queries would end the process.
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

export function createDb(pool: pg.Pool): Db {
  return new Kysely<DB>({ dialect: new PostgresDialect({ pool: patientPool(pool) }) })
}

/** kysely's way to the pool. When PostgreSQL is not there, who asked is told to come back, not that the server failed. */
function patientPool(pool: pg.Pool): PostgresPool {
  return {
    async connect() {
      const client = await pool.connect().catch(unavailable)
      // One with a question that was never answered would let the next wait behind it.
      let unanswered = false
      const query = (text: string, values: unknown[]) =>
        client.query(text, values).catch((error: unknown) => {
          unanswered ||= !hasState(error)
          return unavailable(error)
        })
      return { query, release: () => client.release(unanswered) } as unknown as PostgresPoolClient
    },
    end: () => pool.end(),
  }
}

/** SQLSTATEs that say so. 54000 is a full queue of notifications; 25P03 ends a transaction that nobody went on with. */
const away = /^(08|53|57|58|54000|25P03)/

/** Whether PostgreSQL sent this error; the socket's own have codes like ECONNRESET, or none. */
export function hasState(error: unknown): error is { code: string } {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]+$/.test(code)
}

/** Throws it on, or unavailable when PostgreSQL cannot be reached. */
export function unavailable(error: unknown): never {
  if (hasState(error) && !away.test(error.code)) throw error
  throw new AppError('unavailable', 'The database cannot be asked just now: try again', { cause: error, retryAfter: 5 })
}
