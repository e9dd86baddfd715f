// The embedded PostgreSQL of one data directory, for as long as one Mesher runs on it.
//
// - A postgres that a killed Mesher left behind is taken over, not started twice.
// - Whoever holds the advisory lock owns the data directory. The lock belongs to a connection of its own, so it ends with
//   its process, however that ends; a second Mesher is told so and leaves the running postgres alone.
// - The loss of that connection is the sign that postgres died: it is started again, on the same port, until stop().
// - stop() gives up the lock last, when postgres is down: nobody else can take it over in between.

import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { AppError } from '../errors.ts'
import type { Log } from '../log.ts'
import { type Cluster as Files, openCluster } from './initialise.ts'
import { type Place, preparePlace } from './place.ts'
import { choosePort, isFree, readPort } from './port.ts'
import { findPostmaster, lastWords, spawnPostmaster, stopPostmaster } from './postmaster.ts'

export interface Cluster {
  /** Resolves when the database `mesher` can be used and this process owns the data directory. */
  start(): Promise<{ databaseUrl: string }>
  /** Stops PostgreSQL, unless it belongs to another Mesher. */
  stop(): Promise<void>
}

export interface ClusterOptions {
  dataDir: string
  log: Log
  /** More settings of PostgreSQL, over all others: `{ fsync: 'off' }` in tests. */
  settings?: Record<string, string>
}

// "mesher" in ASCII. Taken in the database postgres, where nothing else takes locks.
const lockKey = '120282495346034'
/** The session of a killed process may outlive it by a moment. */
const lockPatience = 2000
/** A fast shutdown writes what is dirty; the process as a whole has five seconds. */
const stopPatience = 3000
/** Waits between attempts to start: orphans of a killed postmaster may hold its shared memory for a while. */
const retryDelays = [100, 200, 400, 800, 1600, 2000, 2000]

interface Opened {
  place: Place
  files: Files
  portFile: string
}

export function createCluster({ dataDir, log, settings = {} }: ClusterOptions): Cluster {
  const life = new AbortController()
  let opened: Opened | undefined
  let child: ChildProcess | undefined
  let lock: pg.Client | undefined
  let isForeign = false
  let starting: Promise<{ databaseUrl: string }> | undefined
  let recovering: Promise<void> | undefined
  let stopping: Promise<void> | undefined

  const pause = (ms: number) => delay(ms, undefined, { signal: life.signal })

  async function open(): Promise<Opened> {
    const place = await preparePlace(dataDir)
    return { place, files: await openCluster(place), portFile: join(place.dataDir, 'postgres-port') }
  }

  async function begin(): Promise<{ databaseUrl: string }> {
    opened = await open()
    const port = await bringUp(opened, true)
    await own(opened, port)
    await createDatabase(opened, port)
    const { password } = opened.files
    return { databaseUrl: `postgres://mesher:${password}@127.0.0.1:${port}/mesher` }
  }

  /** Finds or starts postgres; resolves with its port when it answers as the postgres of our directory. */
  async function bringUp({ place, files, portFile }: Opened, mayMove: boolean): Promise<number> {
    let attempt = 0
    // Each knock during a recovery is a line in postgres's log, so they become rarer.
    for (let since = Date.now(), wait = 50; ; await pause(wait), wait = Math.min(500, wait * 1.2)) {
      life.signal.throwIfAborted()
      const found = await findPostmaster(files.directory)
      if (found) {
        if (await answers(files, found.port)) return found.port
        if (Date.now() - since > 10_000) {
          since = Date.now()
          log.warn('cluster.not_ready', { directory: files.directory, last_words: await lastWords(files.directory) })
        }
      } else if (!isRunning(child)) {
        if (attempt > 0) await pause(retryDelays[attempt - 1]!)
        if (attempt++ === retryDelays.length) throw await neverStarted(files)
        const port = await portToUse(portFile, mayMove)
        child = await spawnPostmaster(place, files.directory, port, settings)
        child.once('error', (error) => log.error('cluster.spawn_failed', { error }))
        log.info('cluster.spawned', { pid: child.pid, port, directory: files.directory })
      }
    }
  }

  async function portToUse(portFile: string, mayMove: boolean): Promise<number> {
    const kept = await readPort(portFile)
    if (kept !== undefined && (!mayMove || (await isFree(kept)))) return kept
    const port = await choosePort(portFile)
    if (kept !== undefined) log.warn('cluster.port_changed', { from: kept, to: port })
    return port
  }

  async function own({ place, files }: Opened, port: number): Promise<void> {
    const client = createClient(files, port, 'mesher lock')
    // An error is always followed by `end`, which is what counts.
    client.on('error', () => {})
    await client.connect()
    try {
      for (const giveUp = Date.now() + lockPatience; !(await tryLock(client)); await pause(100)) {
        if (Date.now() < giveUp) continue
        isForeign = true
        throw new AppError(
          'conflict',
          `Mesher is already running on this data directory (${place.dataDir}): stop it, or set DATA_DIR to another folder.`,
        )
      }
    } catch (error) {
      await client.end()
      throw error
    }
    lock = client
    isForeign = false
    client.once('end', lost)
  }

  function lost(): void {
    lock = undefined
    if (life.signal.aborted) return
    log.warn('cluster.lost', { directory: opened?.files.directory })
    recovering ??= recover().finally(() => {
      recovering = undefined
    })
  }

  async function recover(): Promise<void> {
    for (let attempt = 0; !life.signal.aborted; attempt++) {
      try {
        const port = await bringUp(opened!, false)
        await own(opened!, port)
        log.warn('cluster.recovered', { port })
        return
      } catch (error) {
        if (life.signal.aborted) return
        log.error('cluster.recovery_failed', { attempt, error })
        await pause(Math.min(5000, 100 * 2 ** attempt)).catch(() => {})
      }
    }
  }

  async function end(): Promise<void> {
    life.abort()
    await starting?.catch(() => {})
    await recovering
    if (opened && !isForeign && (lock || isRunning(child))) {
      const { directory } = opened.files
      if (!(await stopPostmaster(directory, stopPatience))) log.error('cluster.stop_failed', { directory })
    }
    await lock?.end().catch(() => {})
  }

  return {
    start() {
      starting ??= begin()
      return starting
    },
    stop() {
      stopping ??= end()
      return stopping
    },
  }
}

function isRunning(child: ChildProcess | undefined): boolean {
  return child?.pid !== undefined && child.exitCode === null && child.signalCode === null
}

async function neverStarted({ directory }: Files): Promise<AppError> {
  const words = await lastWords(directory)
  return new AppError('unavailable', `PostgreSQL does not start in ${directory}; it last said: ${words}`)
}

// Every setting is given, since pg reads PGHOST, PGSSLMODE and others where one is missing.
function createClient(files: Files, port: number, name: string, database = 'postgres'): pg.Client {
  return new pg.Client({
    host: '127.0.0.1',
    port,
    user: 'mesher',
    password: files.password,
    database,
    ssl: false,
    application_name: name,
    connectionTimeoutMillis: 5000,
    keepAlive: true,
  })
}

/** True when the postgres at this port is the one of our directory and lets us in. */
async function answers(files: Files, port: number): Promise<boolean> {
  const client = createClient(files, port, 'mesher start')
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<{ data_directory: string }>('show data_directory')
    return rows[0]?.data_directory === files.directory
  } catch (cause) {
    // Anything else (not listening yet, recovering, shutting down) passes.
    if ((cause as { code?: string }).code !== '28P01') return false
    throw new AppError(
      'unavailable',
      `The database in ${files.directory} does not accept the password in postgres-password beside it: put the right one there.`,
      { cause },
    )
  } finally {
    await client.end().catch(() => {})
  }
}

async function tryLock(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ taken: boolean }>('select pg_try_advisory_lock($1) as taken', [lockKey])
  return rows[0]!.taken
}

async function createDatabase({ files }: Opened, port: number): Promise<void> {
  const client = createClient(files, port, 'mesher start')
  await client.connect()
  try {
    const { rowCount } = await client.query("select from pg_database where datname = 'mesher'")
    if (rowCount === 0) await client.query('create database mesher')
  } finally {
    await client.end()
  }
}
