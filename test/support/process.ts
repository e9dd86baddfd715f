// The server as a process of its own, as `npm start` starts it, so that it can be killed.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LogLine } from './log.ts'
import type { Scope } from './scope.ts'

const checkout = fileURLToPath(new URL('../..', import.meta.url))

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface ServerProcess {
  child: ChildProcess
  /** What it printed so far. */
  stdout(): string
  stderr(): string
  log(): LogLine[]
  /** Its address, once it runs; rejects when it ends before. */
  url: Promise<string>
  /** When it has ended and everything it printed was read. */
  exit: Promise<Exit>
}

/** Killed after the test. Sees nothing of this process's environment but PATH, and never the data of this checkout. */
export function startProcess(t: Scope, env: Record<string, string>, root = checkout): ServerProcess {
  const dataDir = mkdtempSync(join(tmpdir(), 'mesher-process-'))
  t.after(() => rmSync(dataDir, { recursive: true, force: true }))
  const child = spawn(process.execPath, ['server/cli/start.mjs'], {
    cwd: root,
    env: { PATH: process.env.PATH ?? '', HOST: '127.0.0.1', PORT: '0', LOG_LEVEL: 'info', DATA_DIR: dataDir, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  const exit = new Promise<Exit>((resolve) => child.on('close', (code, signal) => resolve({ code, signal })))
  const url = new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      stdout += chunk
      const found = /^Mesher is running at (\S+)$/m.exec(stdout)
      if (found) resolve(found[1]!)
    })
    exit.then(({ code }) => reject(new Error(`the server ended with ${code}: ${stderr}`)))
  })
  // Not everybody asks for it.
  url.catch(() => {})
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    log: () =>
      stderr.split('\n').flatMap((line) => (line.startsWith('{') && line.endsWith('}') ? [JSON.parse(line)] : [])),
    url,
    exit,
  }
}
