// A program with @sentry/node that a test drives, one command after the other. What it sent was answered when a command is done.

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { Scope } from '../support/scope.ts'
import { within } from '../support/within.ts'
import { here } from './installed.ts'

export interface Driven {
  /** The id of the event, as the SDK tells it to the program. */
  capture(message: string, size?: number): Promise<string>
  checkIn(slug: string): Promise<string>
  /** Moves the SDK's clock, which stands still. */
  wait(seconds: number): Promise<void>
}

export async function startDriven(t: Scope, client: string, dsn: string, tunnel = ''): Promise<Driven> {
  const child = fork(`${here}programs/driven.cjs`, [client, dsn, tunnel], { execArgv: [], stdio: 'inherit' })
  t.after(() => child.kill('SIGKILL'))
  await within('the start of the program', once(child, 'message'), 30_000)

  async function command(name: string, parameters: object): Promise<string> {
    child.send({ name, ...parameters })
    const [answer] = (await within(`the end of ${name}`, once(child, 'message'), 60_000)) as [
      { id: string; flushed: boolean },
    ]
    assert.ok(answer.flushed, `${name} was not sent`)
    return answer.id
  }

  return {
    capture: (message, size) => command('capture', { message, size }),
    checkIn: (slug) => command('checkIn', { slug }),
    wait: async (seconds) => void (await command('wait', { seconds })),
  }
}
