// Connections to PostgreSQL. Each use has its application_name, so that pg_stat_activity tells who is who.

import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely'
import pg from 'pg'
import { AppError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { DB } from './schema.ts'

export type Db = Kysely<DB>

/** Settings of every connection: dead peers are noticed, a hung connect ends. Milliseconds. */
export function connectionConfig(databaseUrl: string, applicationName: string): pg.ClientConfig {
  return {
    connectionString: databaseUrl,
    application_name: applicationName,
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  }
}

export interface PoolOptions {
  applicationName?: string
  max?: number
  /** Milliseconds that a statement may take. */
  timeout?: number
}

/** For people's queries and housekeeping; the writers and the listener have connections of their own. */
export function createPool(
  databaseUrl: string,
  log: Log,
  { applicationName = 'mesher', max = 6, timeout = 30_000 }: PoolOptions = {},
): pg.Pool {
  const pool = new pg.Pool({
    ...connectionConfig(databaseUrl, applicationName),
    max,
    idleTimeoutMillis: 30_000,
    statement_timeout: timeout,
    // Who is not even told of the time-out is cut off from the database.
    query_timeout: timeout + Math.min(timeout, 5_000),
  })
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
      const query = (text: string, values: unknown[]) => client.query(text, values).catch(unavailable)
      return { query, release: () => client.release() } as unknown as PostgresPoolClient
    },
    end: () => pool.end(),
  }
}

/** SQLSTATEs that say so; errors of the socket have none. 54000 is a full queue of notifications. */
const away = /^(08|53|57|58|54000)/

function unavailable(error: unknown): never {
  const { code } = error as { code?: unknown }
  const isState = typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]+$/.test(code)
  if (isState && !away.test(code)) throw error
  throw new AppError('unavailable', 'The database cannot be asked just now: try again', { cause: error, retryAfter: 5 })
}
