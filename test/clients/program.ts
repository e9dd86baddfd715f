// Runs a client's program to its end, with nothing of this machine's environment but what it takes to start one.

import { spawn, spawnSync } from 'node:child_process'
import { within } from '../support/within.ts'

export interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  cwd?: string
  env?: Record<string, string>
  patience?: number
}

export async function runProgram(command: string, args: string[], options: RunOptions = {}): Promise<Ended> {
  const { cwd, env = {}, patience = 60_000 } = options
  const { PATH = '', HOME = '/tmp' } = process.env
  const child = spawn(command, args, { cwd, env: { PATH, HOME, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => (stdout += chunk))
  child.stderr.on('data', (chunk) => (stderr += chunk))
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
  })
  try {
    return await within(`the end of ${command} ${args.join(' ')}`, ended, patience)
  } finally {
    child.kill('SIGKILL')
  }
}

/** For the `skip` of a test: false when the program can be run, else the reason. */
export function missingProgram(command: string, args = ['--version']): string | false {
  const { status, error } = spawnSync(command, args, { stdio: 'ignore' })
  return status === 0 ? false : `${command} cannot be run: ${error?.message ?? `it exits with ${status}`}`
}

/** The settings of one tool, which say where its registry is. */
export function environmentOf(prefix: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (value && name.startsWith(prefix) ? [[name, value]] : [])),
  )
}
