// The server under test, in a process of its own, started as `npm start` does.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { FirstStartFacts } from '../server/first-start.ts'
import type { Database } from './database.ts'
import type { Context } from './figure.ts'

export interface RunningServer extends FirstStartFacts {
  pid: number
  port: number
  public_key: string
  dataDir: string
  stop(): Promise<void>
}

/** On a database that has not had its first start. */
export async function startServer(
  context: Context,
  database: Database,
  { port = 0 }: { port?: number } = {},
): Promise<RunningServer> {
  const dataDir = await mkdtemp(join(tmpdir(), 'mesher-bench-server-'))
  context.after(() => rm(dataDir, { recursive: true, force: true }))
  return launch(context, database, dataDir, port, 'Token')
}

/** The next process on the same port; resolves when it listens. */
export function restartServer(context: Context, database: Database, { dataDir, port }: RunningServer) {
  return launch(context, database, dataDir, port, 'Mesher is running at')
}

async function launch(
  context: Context,
  database: Database,
  dataDir: string,
  port: number,
  line: string,
): Promise<RunningServer> {
  // For a profile: SERVER_NODE_OPTIONS='--cpu-prof --cpu-prof-dir=profile'.
  const extra = process.env.SERVER_NODE_OPTIONS?.split(' ') ?? []
  const args = ['--max-semi-space-size=32', ...extra, 'server/cli/start.mjs']
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH, DATABASE_URL: database.url, DATA_DIR: dataDir, PORT: String(port) },
  })
  const stop = () => ended(child)
  context.after(stop)
  await lineWith(child, line)
  const facts: FirstStartFacts = JSON.parse(await readFile(join(dataDir, 'first-start.json'), 'utf8'))
  const bound = Number(new URL(facts.url).port)
  return { ...facts, pid: child.pid!, port: bound, public_key: new URL(facts.dsn).username, dataDir, stop }
}

/** Asks a child to end, and waits until it did. */
export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  await gone
}

async function lineWith(child: ChildProcess, text: string): Promise<void> {
  for await (const line of createInterface({ input: child.stdout! })) if (line.includes(text)) return
  throw new Error('the server ended before it was running')
}
