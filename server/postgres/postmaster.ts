// The postgres process of one data directory: found by its pid file, started, asked to stop. A pid alone proves nothing,
// since after a crash or in a new container the number may be somebody else's: the process must name the directory.

import type { ChildProcess } from 'node:child_process'
import { readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Place, spawnAs, writeAs } from './place.ts'

export interface Postmaster {
  pid: number
  port: number
}

/** For `mesher.conf`, which PostgreSQL reads before its own postgresql.auto.conf: `alter system set` wins over these. */
const defaults: Record<string, string> = {
  // Touched only as it fills.
  shared_buffers: '128MB',
  max_connections: '60',
  // Checkpoints seldom: each makes the next change of every page go to the log whole.
  max_wal_size: '4GB',
  checkpoint_timeout: '15min',
  // Never worth its compile time on statements of a few milliseconds.
  jit: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
  // Life and crashes only. A failed statement is answered to who sent it; its text and rows may hold people's data, and a
  // log of them would grow without bound.
  log_min_messages: 'log',
  log_min_error_statement: 'panic',
  log_checkpoints: 'off',
}

const logFile = 'postgres.log'
const maxLogBytes = 4 * 1024 * 1024

/** The live postmaster of a directory, or null. Removes a pid file whose process is another program by now. */
export async function findPostmaster(directory: string): Promise<Postmaster | null> {
  const path = join(directory, 'postmaster.pid')
  const lines = (await readFile(path, 'utf8').catch(() => '')).split('\n')
  const pid = Number(lines[0])
  const port = Number(lines[3])
  if (!Number.isInteger(pid) || pid <= 0) return null
  const state = await look(pid, directory)
  if (state === 'ours') return { pid, port }
  // PostgreSQL itself would see the number in use and refuse to start.
  if (state === 'other') await rm(path, { force: true })
  return null
}

async function look(pid: number, directory: string): Promise<'ours' | 'other' | 'gone'> {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // Not ours to signal: then it is not a postgres of ours.
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? 'other' : 'gone'
  }
  if (process.platform !== 'linux') return 'ours'
  // The command line, not /proc/<pid>/cwd: root in a container may not read that of another user. A zombie's is empty.
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  if (command === '') return 'gone'
  const words = command.split('\0')
  const named = words[words.indexOf('-D') + 1] ?? ''
  return (await realpath(named).catch(() => '')) === directory ? 'ours' : 'other'
}

/** Starts it in a session of its own: a Ctrl-C in the terminal stops Mesher, which stops PostgreSQL when it is ready. */
export async function spawnPostmaster(
  place: Place,
  directory: string,
  port: number,
  settings: Record<string, string>,
): Promise<ChildProcess> {
  await writeAs(place.account, join(directory, 'mesher.conf'), confOf(defaults))
  const log = join(directory, logFile)
  const written = (await stat(log).catch(() => undefined))?.size ?? 0
  if (written > maxLogBytes) await rename(log, `${log}.1`)

  const fixed = { listen_addresses: '127.0.0.1', port: String(port), unix_socket_directories: '', ...settings }
  const options = Object.entries(fixed).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  // The shell opens the log as the account and then becomes postgres, so the pid is postgres's.
  const script = 'umask 077; log=$1; shift; exec "$@" >> "$log" 2>&1'
  const command = [place.binaries.postgres, '-D', directory, ...options]
  const child = spawnAs(place.account, '/bin/sh', ['-c', script, 'sh', log, ...command], {
    stdio: ['ignore', 'ignore', 'ignore'],
    detached: true,
  })
  child.unref()
  return child
}

/** The end of what PostgreSQL said, for an error message of one line. */
export async function lastWords(directory: string): Promise<string> {
  const said = await readFile(join(directory, logFile), 'utf8').catch(() => '')
  return said.trim().split('\n').slice(-3).join(' / ')
}

/** Fast shutdown, then an immediate one, which costs a recovery at the next start but no data. True when it is gone. */
export async function stopPostmaster(directory: string, patience: number): Promise<boolean> {
  const found = await findPostmaster(directory)
  if (!found) return true
  for (const [signal, wait] of [
    ['SIGINT', patience],
    ['SIGQUIT', 2000],
  ] as const) {
    if (!sendSignal(found.pid, signal)) return true
    for (const end = Date.now() + wait; Date.now() < end; await delay(20)) {
      if ((await look(found.pid, directory)) !== 'ours') return true
    }
  }
  return false
}

function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

function confOf(settings: Record<string, string>): string {
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'`)
  return ['# Written by Mesher at every start; change settings with "alter system set".', ...lines, ''].join('\n')
}
