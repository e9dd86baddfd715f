// Where the embedded PostgreSQL's files are, and as whom it runs.
//
// Ordinarily: in <data directory>/postgres, as whoever runs Mesher. But PostgreSQL refuses to run as root, so root runs it
// as an unprivileged user, who must be able to reach the files. When the data directory lies under one that is closed to
// that user (root's home is 0700), the database goes to /var/lib/mesher/<id> with <data directory>/postgres a link to it,
// so that the place can be seen; programs out of reach are copied to /var/lib/mesher/bin-<version>.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, chown, cp, mkdir, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { AppError } from '../errors.ts'
import { type Binaries, binariesIn, findBinaries } from './binaries.ts'

const run = promisify(execFile)

const systemDirectory = '/var/lib/mesher'

/** The user that PostgreSQL runs as when Mesher itself runs as root. */
export interface Account {
  uid: number
  gid: number
}

export interface Place {
  /** Absolute, without links. */
  dataDir: string
  /** The database, or the link to it. */
  entry: string
  /** New databases are made in here; another folder than `dataDir` when that is out of the account's reach. */
  parent: string
  account: Account | undefined
  binaries: Binaries
}

export async function preparePlace(given: string): Promise<Place> {
  const dataDir = await makeDataDirectory(resolve(given))
  const entry = join(dataDir, 'postgres')
  const isMine = await isMesherFolder(dataDir)
  if (isMine) await chmod(dataDir, 0o700).catch(refuse(`The data directory ${dataDir} cannot be closed to others`))
  const binaries = await findBinaries()
  if (process.getuid?.() !== 0) {
    await assertOwn(entry)
    return { dataDir, entry, parent: dataDir, account: undefined, binaries }
  }

  const account = (await ownerOf(entry)) ?? (await findAccount())
  // Ours alone: root reads it anyway. A folder that holds other people's things keeps its owner and mode.
  if (isMine && (await canEnter(account, dirname(dataDir)))) await chown(dataDir, account.uid, account.gid)
  const inside = await canEnter(account, dataDir)
  await assertReachable(account, entry)
  const parent = inside ? dataDir : systemDirectory
  if (!inside) await mkdir(systemDirectory, { recursive: true, mode: 0o711 })
  return { dataDir, entry, parent, account, binaries: await reachableBinaries(account, binaries) }
}

/** Runs a program as the account, seeing nothing of our environment: PGDATA, PGPORT and the like must not reach it. */
export function spawnAs(
  account: Account | undefined,
  program: string,
  args: string[],
  options: { cwd?: string; stdio: ('ignore' | 'pipe' | number)[]; detached?: boolean },
): ChildProcess {
  return spawn(program, args, { cwd: '/', ...options, ...account, env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } })
}

/** Written by the account itself: root must not follow links that the owner of a folder may have put there. */
export async function writeAs(account: Account | undefined, path: string, content: string): Promise<void> {
  const script = 'umask 077 && cat > "$1"'
  const child = spawnAs(account, '/bin/sh', ['-c', script, 'sh', path], { stdio: ['pipe', 'ignore', 'ignore'] })
  child.stdin!.on('error', () => {})
  child.stdin!.end(content)
  if (!(await succeeds(child))) throw new AppError('unavailable', `The file ${path} cannot be written.`)
}

/** A new private folder beside the final place, on the same file system, for work that ends in one rename. */
export async function makeWorkFolder(place: Place): Promise<string> {
  const folder = join(place.parent, `postgres-new-${randomBytes(8).toString('hex')}`)
  await mkdir(folder, { mode: 0o700 })
  if (place.account) await chown(folder, place.account.uid, place.account.gid)
  return folder
}

async function makeDataDirectory(path: string): Promise<string> {
  try {
    await mkdir(dirname(path), { recursive: true })
    await mkdir(path, { mode: 0o700 }).catch(async (error) => {
      if (!(await stat(path)).isDirectory()) throw error
    })
    return await realpath(path)
  } catch (error) {
    return refuse(`The data directory ${path} cannot be made (set DATA_DIR to another folder)`)(error)
  }
}

/** Empty, or with our files in it. Of any other (DATA_DIR=/tmp) owner and mode are left alone. */
async function isMesherFolder(dataDir: string): Promise<boolean> {
  const names = await readdir(dataDir).catch(refuse(`The data directory ${dataDir} cannot be read`))
  return names.length === 0 || names.some((name) => /^postgres(-|$)/.test(name))
}

async function assertOwn(entry: string): Promise<void> {
  const owner = (await stat(entry).catch(() => undefined))?.uid
  if (owner === undefined || owner === process.getuid?.()) return
  throw new AppError(
    'forbidden',
    `The database in ${entry} belongs to another user (uid ${owner}): run Mesher as that user or as root, ` +
      'or set DATA_DIR to another folder.',
  )
}

async function assertReachable(account: Account, entry: string): Promise<void> {
  const directory = await realpath(entry).catch(() => undefined)
  if (directory === undefined || (await canEnter(account, directory))) return
  throw new AppError(
    'forbidden',
    `User ${account.uid}, who owns the database in ${directory}, cannot reach it any more: open the folders above to ` +
      'others (chmod o+x), or move it to one that is open and make a link to it.',
  )
}

async function ownerOf(entry: string): Promise<Account | undefined> {
  const found = await stat(entry).catch(() => undefined)
  if (!found) return undefined
  if (found.uid !== 0) return { uid: found.uid, gid: found.gid }
  // Restored or copied by root, say.
  const account = await findAccount()
  await run('chown', ['-R', `${account.uid}:${account.gid}`, await realpath(entry)])
  return account
}

async function findAccount(): Promise<Account> {
  const known = (await accountOf('postgres')) ?? (await accountOf('mesher'))
  if (known) return known
  const args = ['--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', 'mesher']
  const failure = await run('useradd', args).then(
    () => undefined,
    (error: unknown) => error,
  )
  const made = await accountOf('mesher')
  if (made) return made
  throw new AppError(
    'unavailable',
    'PostgreSQL refuses to run as root, and a system user "mesher" for it could not be made with useradd: ' +
      'make that user, run Mesher as an ordinary user, or set DATABASE_URL.',
    { cause: failure },
  )
}

async function accountOf(name: string): Promise<Account | undefined> {
  try {
    const [uid, gid] = await Promise.all(
      ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, name])).stdout)),
    )
    return uid && gid ? { uid, gid } : undefined
  } catch {
    return undefined
  }
}

/** Tried, not computed from mode bits: access lists and containers have a say too. */
async function canEnter(account: Account, folder: string): Promise<boolean> {
  return succeeds(
    spawnAs(account, '/bin/sh', ['-c', 'cd "$1"', 'sh', folder], { stdio: ['ignore', 'ignore', 'ignore'] }),
  )
}

async function reachableBinaries(account: Account, binaries: Binaries): Promise<Binaries> {
  if (await canRun(account, binaries)) return binaries
  const copy = binariesIn(join(systemDirectory, `bin-${binaries.version}`), binaries.version)
  if (await canRun(account, copy)) return copy

  await mkdir(systemDirectory, { recursive: true, mode: 0o711 })
  const work = `${copy.directory}-new-${randomBytes(8).toString('hex')}`
  try {
    await cp(binaries.directory, work, { recursive: true, verbatimSymlinks: true })
    await run('chmod', ['-R', 'a+rX', work])
    // Not empty: another start was quicker, and its copy is as good.
    await rename(work, copy.directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  if (await canRun(account, copy)) return copy
  throw new AppError(
    'unavailable',
    `PostgreSQL does not run as user ${account.uid} from ${copy.directory}: look at that folder, or set DATABASE_URL.`,
  )
}

async function canRun(account: Account, { postgres, initdb }: Binaries): Promise<boolean> {
  for (const program of [postgres, initdb]) {
    const child = spawnAs(account, program, ['--version'], { stdio: ['ignore', 'ignore', 'ignore'] })
    if (!(await succeeds(child))) return false
  }
  return true
}

function succeeds(child: ChildProcess): Promise<boolean> {
  return new Promise((done) => {
    child.once('error', () => done(false))
    child.once('exit', (code) => done(code === 0))
  })
}

function refuse(sentence: string): (error: unknown) => never {
  return (cause) => {
    throw new AppError('unavailable', `${sentence}: ${(cause as Error).message}`, { cause })
  }
}
