// A PostgreSQL of its own, two projects in it, and the oracle's journal beside them. Commit times are kept by PostgreSQL
// itself (track_commit_timestamp), since the order of commits is what a subscriber without a cursor is owed.

import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { bootstrap } from '../../server/db/bootstrap.ts'
import { migrate } from '../../server/db/migrate.ts'
import { createDb, createPool } from '../../server/db/pool.ts'
import { createLog } from '../../server/log.ts'
import { createCluster } from '../../server/postgres/cluster.ts'
import { query, type TestDatabase } from '../support/database.ts'
import type { Scope } from '../support/scope.ts'
import { type Disk, mountDisk } from './disk.ts'

export interface Project {
  id: string
  public_key: string
}

export interface World {
  /** Private to this run, and gone after it. */
  folder: string
  token: string
  projects: Project[]
  /** `sql` waits for a PostgreSQL that is away; `connect` does not. */
  database: TestDatabase
  /** The one that the database is on; null when it is everybody's. */
  disk: Disk | null
  /** The pid of PostgreSQL, when it runs. */
  postmaster(): Promise<number | null>
}

export const maxConnections = 80

const settings = {
  max_connections: String(maxConnections),
  track_commit_timestamp: 'on',
  // As long as a round or two, so that it fits a small disk.
  max_wal_size: '128MB',
  // 8 MB instead of 8 GB, so that somebody who does not read can fill it.
  max_notify_queue_pages: '1024',
}

export async function createWorld(scope: Scope, options: { fsync: boolean; smallDisk: boolean }): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), 'mesher-oracle-'))
  scope.after(() => rm(folder, { recursive: true, force: true }))
  const disk = options.smallDisk ? await mountDisk(scope, folder, 512) : null
  const dataDir = join(folder, 'data')
  const log = createLog('error', () => {})
  const unsafe = { fsync: 'off', full_page_writes: 'off' }
  const cluster = createCluster({ dataDir, log, settings: options.fsync ? settings : { ...settings, ...unsafe } })
  scope.after(async () => {
    const place = await realpath(join(dataDir, 'postgres')).catch(() => '')
    await cluster.stop()
    if (place) await rm(place, { recursive: true, force: true })
  })
  const { databaseUrl: url } = await cluster.start()
  await migrate(url, log)
  const pool = createPool(url, log)
  const first = (await bootstrap(createDb(pool)))!
  await pool.end()

  const other = { id: '', public_key: randomBytes(16).toString('hex') }
  const [row] = await query<{ id: string }>(
    url,
    "insert into projects (organization_id, slug, name) select id, 'other', 'other' from organizations returning id",
  )
  other.id = row!.id
  await query(url, 'insert into project_keys (public_key, project_id) values ($1, $2)', [other.public_key, other.id])
  await query(url, await readFile(new URL('journal.sql', import.meta.url), 'utf8'))

  return {
    folder,
    disk,
    token: first.token,
    projects: [{ id: first.project_id, public_key: first.public_key }, other],
    database: {
      url,
      sql: (text, values) => patiently(() => query(url, text, values)),
      async connect(applicationName = 'by hand') {
        const client = new pg.Client({ connectionString: url, application_name: applicationName })
        client.on('error', () => {})
        await client.connect()
        return client
      },
    },
    async postmaster() {
      const file = await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').catch(() => '')
      return Number(file.split('\n')[0]) || null
    },
  }
}

/** Also a statement that PostgreSQL took and did not answer is sent again: for what may run twice. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (const end = performance.now() + 60_000; ; await delay(100)) {
    try {
      return await work()
    } catch (error) {
      if (performance.now() > end || !isAway(error)) throw error
    }
  }
}

/** PostgreSQL is not there, is going, is full: nobody's fault while faults are made. */
export function isAway(error: unknown): boolean {
  const { code } = error as { code?: string }
  return !code || /^E[A-Z]+$/.test(code) || /^(08|53|57|58|54000)/.test(code)
}

/** Deadlock, somebody's lock, serialization, a statement that took too long. */
export const isContention = (error: unknown) =>
  ['40P01', '55P03', '40001', '57014'].includes((error as { code?: string }).code ?? '')
