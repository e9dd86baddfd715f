// Brings a database to this program's revision: migrations once each, forward only, then the functions and triggers
// whole. All in one transaction under an advisory lock, so that processes that start together do it once.
// Each migration records its own name, so that applying the files through psql leaves the same trace.

import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import pg from 'pg'
import type { Log } from '../log.ts'
import { connectionConfig } from './pool.ts'

const folder = new URL('../../db/', import.meta.url)
/** Replaced as a whole at every start, in this order. */
const programs = ['ingest_batch.sql', 'triggers.sql', 'triage.sql']
const oldestSupported = 150_000

interface Migration {
  name: string
  sql: string
  checksum: string
}

/** Throws an Error with one clear line when the server is too old, or the database belongs to a newer Mesher. */
export async function migrate(databaseUrl: string, log: Log): Promise<void> {
  const client = new pg.Client(connectionConfig(databaseUrl, 'mesher migrate'))
  // What ends it is told by the next query; without a listener it would end the process without a word to its user.
  client.on('error', () => {})
  await client.connect()
  try {
    await refuseOldServer(client)
    await client.query('begin')
    await client.query("select pg_advisory_xact_lock(hashtext('mesher.migrate'))")
    const done = await applied(client)
    const migrations = await readMigrations()
    for (const migration of missing(migrations, done)) {
      await client.query(migration.sql)
      await client.query('update schema_migrations set checksum = $2 where name = $1', [
        migration.name,
        migration.checksum,
      ])
      log.info('migrate.applied', { migration: migration.name })
    }
    await applyPrograms(client, done)
    await fillChecksums(client, migrations)
    await client.query(
      "select ensure_event_partitions((now() at time zone 'UTC')::date - 1, (now() at time zone 'UTC')::date + 7)",
    )
    await client.query('commit')
  } finally {
    await client.end()
  }
}

async function refuseOldServer(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ number: string; name: string }>(
    "select current_setting('server_version_num') as number, current_setting('server_version') as name",
  )
  refuseOldVersion(Number(rows[0]!.number), rows[0]!.name)
}

/** `number` is PostgreSQL's server_version_num: 150000 is 15.0. */
export function refuseOldVersion(number: number, name: string): void {
  if (number < oldestSupported) {
    throw new Error(`Mesher needs PostgreSQL 15 or newer; DATABASE_URL leads to version ${name}`)
  }
}

async function readMigrations(): Promise<Migration[]> {
  const files = (await readdir(new URL('migrations/', folder))).filter((file) => file.endsWith('.sql')).sort()
  return Promise.all(
    files.map(async (file) => {
      const sql = await readFile(new URL(`migrations/${file}`, folder), 'utf8')
      return { name: file.slice(0, -'.sql'.length), sql, checksum: sha256(sql) }
    }),
  )
}

async function applied(client: pg.Client): Promise<Map<string, string | null>> {
  const { rows: found } = await client.query<{ here: boolean }>(
    "select to_regclass('schema_migrations') is not null as here",
  )
  if (!found[0]!.here) return new Map()
  const { rows } = await client.query<{ name: string; checksum: string | null }>(
    'select name, checksum from schema_migrations',
  )
  return new Map(rows.map((row) => [row.name, row.checksum]))
}

function missing(migrations: Migration[], done: Map<string, string | null>): Migration[] {
  const known = new Map(migrations.map((migration) => [migration.name, migration]))
  for (const [name, checksum] of done) {
    if (programs.includes(name)) continue
    const migration = known.get(name)
    if (!migration) throw new Error(`this database was migrated by a newer Mesher (${name}): start that version`)
    if (checksum !== null && checksum !== migration.checksum) {
      throw new Error(
        `db/migrations/${name}.sql was changed after it had been applied: restore it and add a new migration`,
      )
    }
  }
  return migrations.filter((migration) => !done.has(migration.name))
}

/**
 * Functions and triggers are replaced only when their text is another than the last time: replacing a trigger waits for
 * every open transaction on its table, and ingest would wait behind it.
 */
async function applyPrograms(client: pg.Client, done: Map<string, string | null>): Promise<void> {
  for (const file of programs) {
    const sql = await readFile(new URL(file, folder), 'utf8')
    const checksum = sha256(sql)
    if (done.get(file) === checksum) continue
    await client.query(sql)
    await client.query(
      'insert into schema_migrations (name, checksum) values ($1, $2) on conflict (name) do update set checksum = excluded.checksum, applied_at = now()',
      [file, checksum],
    )
  }
}

/** Of the migrations just applied, and of those that were applied by psql. */
async function fillChecksums(client: pg.Client, migrations: Migration[]): Promise<void> {
  for (const { name, checksum } of migrations) {
    await client.query('update schema_migrations set checksum = $2 where name = $1 and checksum is null', [
      name,
      checksum,
    ])
  }
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
