// A new database, made aside and moved into place by one rename: a crash in the middle, or two first starts at once,
// never leave half a one. The password is written before it, also at once, so that both starts use the same.

import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { link, lstat, readdir, readFile, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { AppError } from '../errors.ts'
import { makeWorkFolder, type Place, spawnAs, writeAs } from './place.ts'

export interface Cluster {
  /** PGDATA, absolute, without links. */
  directory: string
  password: string
}

const passwordFile = 'postgres-password'

/** The database of a place, made when there is none. */
export async function openCluster(place: Place): Promise<Cluster> {
  const existing = await locate(place)
  const password = await readPassword(place, existing)
  if (existing) return { directory: existing, password }
  await removeAbandoned(place)
  await initialise(place, password)
  const directory = await locate(place)
  if (!directory) throw new Error(`${place.entry} is gone again`)
  return { directory, password }
}

async function locate(place: Place): Promise<string | undefined> {
  try {
    const directory = await realpath(place.entry)
    await stat(join(directory, 'PG_VERSION'))
    return directory
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return refuseForeign(place)
    throw new AppError('unavailable', `The database in ${place.entry} cannot be read: ${(error as Error).message}`)
  }
}

/** Nothing there is fine; something else there is not ours to replace, nor is a lost database. */
async function refuseForeign(place: Place): Promise<undefined> {
  const found = await lstat(place.entry).catch(() => undefined)
  if (!found) return
  if (found.isSymbolicLink() && !(await stat(place.entry).catch(() => undefined))) {
    throw new AppError(
      'not_found',
      `${place.entry} is a link to a database that is gone: bring it back, or remove the link to start anew.`,
    )
  }
  const names = await readdir(place.entry).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  if (names.length > 0) throw new AppError('conflict', `${place.entry} is not a PostgreSQL database: move it away.`)
}

async function readPassword(place: Place, existing: string | undefined): Promise<string> {
  const path = join(place.dataDir, passwordFile)
  const read = () =>
    readFile(path, 'utf8').then(
      (password) => password.trim(),
      () => undefined,
    )
  const known = await read()
  if (known) return known
  if (existing) {
    throw new AppError(
      'unavailable',
      `${path} is missing, but the database in ${place.entry} needs it: write the password into it again ` +
        '(database_url in first-start.json has it), or move both away to start anew.',
    )
  }
  const draft = `${path}-${randomBytes(8).toString('hex')}`
  await writeFile(draft, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' })
  // link, unlike rename, keeps the file of whoever came first.
  await link(draft, path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  await rm(draft)
  return (await read())!
}

async function initialise(place: Place, password: string): Promise<void> {
  const work = await makeWorkFolder(place)
  try {
    const draft = join(work, 'cluster')
    const secret = join(work, 'password')
    await writeAs(place.account, secret, `${password}\n`)
    await initdb(place, [
      ...['--pgdata', draft, '--username', 'mesher', '--pwfile', secret, '--auth', 'scram-sha-256'],
      // Text compares the same on every machine and after every upgrade of its C library.
      ...['--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
      ...['--data-checksums', '--no-instructions'],
    ])
    const conf = join(draft, 'postgresql.conf')
    await writeAs(place.account, conf, `${await readFile(conf, 'utf8')}\ninclude_if_exists = 'mesher.conf'\n`)
    await moveIntoPlace(place, draft, basename(work))
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function initdb(place: Place, args: string[]): Promise<void> {
  const child = spawnAs(place.account, place.binaries.initdb, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const [code, said] = await Promise.all([exitCode(child), text(child.stderr!)])
  if (code === 0) return
  throw new AppError('unavailable', `initdb could not make a database in ${place.parent}: ${said.trim()}`)
}

function exitCode(child: ChildProcess): Promise<number | null> {
  return new Promise((done, fail) => {
    child.once('error', fail)
    child.once('close', done)
  })
}

async function moveIntoPlace(place: Place, draft: string, workName: string): Promise<void> {
  if (place.parent === place.dataDir) {
    await rename(draft, place.entry).catch(cameSecond)
    return
  }
  const outside = join(place.parent, workName.replace('postgres-new-', ''))
  await rename(draft, outside)
  await symlink(outside, place.entry).catch(async (error) => {
    await rm(outside, { recursive: true })
    cameSecond(error)
  })
}

function cameSecond(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
}

/** What an initdb that was killed left behind; one that runs now is younger than this. */
async function removeAbandoned(place: Place): Promise<void> {
  for (const name of await readdir(place.parent)) {
    if (!name.startsWith('postgres-new-')) continue
    const path = join(place.parent, name)
    const age = Date.now() - ((await stat(path).catch(() => undefined))?.mtimeMs ?? Date.now())
    if (age > 600_000) await rm(path, { recursive: true, force: true })
  }
}
