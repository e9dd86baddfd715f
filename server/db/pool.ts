// Connections to PostgreSQL. Each use has its application_name, so that pg_stat_activity tells who is who.

import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
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

/** For people's queries and housekeeping; the writers and the listener have connections of their own. */
export function createPool(databaseUrl: string, log: Log): pg.Pool {
  const pool = new pg.Pool({
    ...connectionConfig(databaseUrl, 'mesher'),
    max: 6,
    idleTimeoutMillis: 30_000,
    statement_timeout: 30_000,
    query_timeout: 35_000,
  })
  // An idle connection that dies is replaced by the pool at the next query; without a listener it would end the process.
  pool.on('error', (error) => log.warn('pool.connection_lost', { error: error.message }))
  return pool
}

export function createDb(pool: pg.Pool): Db {
  return new Kysely<DB>({ dialect: new PostgresDialect({ pool }) })
}
