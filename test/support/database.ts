// A database of its own for each test, cloned from a migrated template (0.1 s). NOTIFY is per database, so tests cannot
// hear each other. One that failed is kept, and how to look at it is printed.

import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { bootstrap, type FirstStart } from '../../server/db/bootstrap.ts'
import { migrate } from '../../server/db/migrate.ts'
import { createDb, createPool } from '../../server/db/pool.ts'
import { createLog } from '../../server/log.ts'
import type { Scope } from './scope.ts'

const quiet = createLog('error')

export function adminUrl(): string {
  const url = process.env.TEST_DATABASE_URL
  if (!url) throw new Error('run tests through `npm test` (or `npm test -- test/one.test.ts`): it starts a PostgreSQL')
  return url
}

function urlOf(name: string, of = adminUrl()): string {
  const url = new URL(of)
  url.pathname = `/${name}`
  return url.href
}

export async function query<R extends pg.QueryResultRow>(
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<R[]> {
  const client = new pg.Client({ connectionString: url })
  // One that is ended between two steps is told by the next; without a listener it would end the process.
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<R>(text, values)).rows
  } finally {
    await client.end()
  }
}

export async function createTemplate(url: string): Promise<string> {
  const name = `mesher_template_${randomBytes(4).toString('hex')}`
  await query(url, `create database ${name}`)
  await migrate(urlOf(name, url), quiet)
  return name
}

export interface TestDatabase {
  url: string
  /** One statement on a connection of its own. */
  sql<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>
  /** A connection that is closed after the test, for transactions and roles. */
  connect(applicationName?: string): Promise<pg.Client>
}

/** `migrated: false` gives an empty one. */
export async function createDatabase(t: Scope, options: { migrated?: boolean } = {}): Promise<TestDatabase> {
  const name = `mesher_test_${randomBytes(6).toString('hex')}`
  const template = process.env.TEST_TEMPLATE
  if (options.migrated === false || !template) await query(adminUrl(), `create database ${name}`)
  else await query(adminUrl(), `create database ${name} template ${template}`)
  const url = urlOf(name)
  if (options.migrated !== false && !template) await migrate(url, quiet)
  const clients: pg.Client[] = []
  t.after(async () => {
    await Promise.all(clients.map((client) => client.end().catch(() => {})))
    await query(adminUrl(), `drop database if exists ${name} with (force)`)
  })
  return {
    url,
    sql: (text, values) => query(url, text, values),
    async connect(applicationName = 'test') {
      const client = new pg.Client({ connectionString: url, application_name: applicationName })
      client.on('error', () => {})
      await client.connect()
      clients.push(client)
      return client
    },
  }
}

/** Organization, project `app`, its key and a token, as the first start makes them. */
export async function firstStart(database: TestDatabase): Promise<FirstStart> {
  const pool = createPool(database.url, quiet)
  try {
    const first = await bootstrap(createDb(pool))
    if (!first) throw new Error('this database had its first start')
    return first
  } finally {
    await pool.end()
  }
}
