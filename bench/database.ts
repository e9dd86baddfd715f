// One PostgreSQL for the run, with the product's own settings and fsync on, and a new database in it for each figure.

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { bootstrap, type FirstStart } from '../server/db/bootstrap.ts'
import { migrate } from '../server/db/migrate.ts'
import { createDb, createPool } from '../server/db/pool.ts'
import type { Log } from '../server/log.ts'
import { createCluster } from '../server/postgres/cluster.ts'
import { cpuOfPostgres } from './cpu.ts'

export interface Database {
  url: string
  first: FirstStart
  sql<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>
  /** Microseconds of processor time that PostgreSQL as a whole has taken. */
  cpu(): number
  drop(): Promise<void>
}

export interface Databases {
  create(options?: { migrated?: boolean }): Promise<Database>
  /** `version()`, for the record. */
  version: string
  stop(): Promise<void>
}

export async function startPostgres(log: Log): Promise<Databases> {
  const dataDir = await mkdtemp(join(tmpdir(), 'mesher-bench-'))
  const cluster = createCluster({ dataDir, log })
  const { databaseUrl } = await cluster.start()
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const { rows } = await client.query<{ version: string; pid: number }>(
    "select current_setting('server_version') as version, pg_backend_pid() as pid",
  )
  const { version, pid } = rows[0]!
  return {
    version,
    create: (options) => createDatabase(databaseUrl, log, pid, options?.migrated ?? true),
    async stop() {
      await client.end()
      await cluster.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

async function createDatabase(adminUrl: string, log: Log, backend: number, migrated: boolean): Promise<Database> {
  const name = `mesher_bench_${randomBytes(4).toString('hex')}`
  await query(adminUrl, `create database ${name}`)
  const url = new URL(adminUrl)
  url.pathname = `/${name}`
  return {
    url: url.href,
    first: migrated ? await prepare(url.href, log) : { project_id: '', public_key: '', token: '' },
    sql: (text, values) => query(url.href, text, values),
    cpu: () => cpuOfPostgres(backend),
    async drop() {
      await query(adminUrl, `drop database ${name} with (force)`)
      // Else the next figure pays for writing what this one left dirty.
      await query(adminUrl, 'checkpoint')
    },
  }
}

async function prepare(url: string, log: Log): Promise<FirstStart> {
  await migrate(url, log)
  const pool = createPool(url, log)
  try {
    const first = await bootstrap(createDb(pool))
    if (!first) throw new Error('a new database had its first start')
    return first
  } finally {
    await pool.end()
  }
}

async function query<R extends pg.QueryResultRow>(url: string, text: string, values: unknown[] = []): Promise<R[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<R>(text, values)).rows
  } finally {
    await client.end()
  }
}
