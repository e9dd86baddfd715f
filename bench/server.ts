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
}

/** On a database that has not had its first start. */
export async function startServer(context: Context, database: Database): Promise<RunningServer> {
  const dataDir = await mkdtemp(join(tmpdir(), 'mesher-bench-server-'))
  context.after(() => rm(dataDir, { recursive: true, force: true }))
  // For a profile: SERVER_NODE_OPTIONS='--cpu-prof --cpu-prof-dir=profile'.
  const extra = process.env.SERVER_NODE_OPTIONS?.split(' ') ?? []
  const args = ['--max-semi-space-size=32', ...extra, 'server/cli/start.mjs']
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH, DATABASE_URL: database.url, DATA_DIR: dataDir, PORT: '0' },
  })
  context.after(() => ended(child))
  await lineWith(child, 'Token')
  const facts: FirstStartFacts = JSON.parse(await readFile(join(dataDir, 'first-start.json'), 'utf8'))
  return { ...facts, pid: child.pid!, port: Number(new URL(facts.url).port), public_key: new URL(facts.dsn).username }
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
