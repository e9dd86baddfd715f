// Several servers as processes, each with its own way to the database, which may be broken. Whatever ends one, it is
// started again.

import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type ServerProcess, startProcess } from '../support/process.ts'
import { createProxy, type DatabaseProxy } from '../support/proxy.ts'
import type { Random } from '../support/random.ts'
import type { Scope } from '../support/scope.ts'
import type { Story } from './story.ts'
import type { World } from './world.ts'

export interface Slot {
  name: string
  proxy: DatabaseProxy
  /** Null while it starts. */
  url: string | null
  process: ServerProcess
}

export interface Fleet {
  slots: Slot[]
  /** Any server that runs, as a client would know it: it may end at the next moment. */
  pick(random: Random): Promise<string>
  /** Ends one; the next is started at once. */
  end(slot: Slot, signal: 'SIGKILL' | 'SIGTERM'): void
  /** Resolves when every server runs and says that it is ready. */
  ready(patience: number): Promise<void>
}

export async function startFleet(scope: Scope, world: World, story: Story, count: number): Promise<Fleet> {
  let stopping = false
  scope.after(() => {
    stopping = true
  })
  /** Signals that were sent on purpose. */
  const sent = new WeakMap<ServerProcess, string>()

  const start = (proxy: DatabaseProxy) =>
    startProcess(scope, {
      DATABASE_URL: proxy.url,
      // Not the checkout's, whose first-start.json would be brought up to date with this database.
      DATA_DIR: join(world.folder, 'none'),
      LOG_LEVEL: 'warn',
      DATABASE_GRACE: '2',
    })

  async function keep(slot: Slot): Promise<void> {
    while (!stopping) {
      slot.process = start(slot.proxy)
      slot.url = await slot.process.url.catch(() => null)
      const isUp = slot.url !== null
      if (isUp) story.note(slot.name, `runs at ${slot.url} as ${slot.process.child.pid}`)
      const exit = await slot.process.exit
      slot.url = null
      const why = sent.get(slot.process)
      const how = `ended with ${exit.signal ?? exit.code} after ${why ?? 'nothing'}`
      const words = slot.process.stderr().trim().split('\n').slice(-3).join('\n    ')
      story.note(slot.name, how)
      // A start without a database is refused; whoever runs must go on running.
      if (isUp && !why && !stopping) story.wrong(`${slot.name} ${how}:\n    ${words}`)
      if (exit.code !== null && exit.code !== 0) story.note(slot.name, `last said ${words.slice(0, 500)}`)
      if (!isUp) await delay(500)
    }
  }

  const slots: Slot[] = []
  for (let index = 0; index < count; index++) {
    const proxy = await createProxy(scope, world.database.url)
    // `keep` starts the process before its first await.
    const slot = { name: `server ${index + 1}`, proxy, url: null } as unknown as Slot
    slots.push(slot)
    keep(slot)
  }

  const fleet: Fleet = {
    slots,
    async pick(random) {
      for (;;) {
        const slot = random.pick(slots)
        if (slot.url !== null) return slot.url
        if (slots.every((one) => one.url === null)) await delay(20)
      }
    },
    end(slot, signal) {
      sent.set(slot.process, signal)
      slot.process.child.kill(signal)
    },
    async ready(patience) {
      const end = performance.now() + patience
      for (const slot of slots) {
        while (!(await isReady(slot.url))) {
          if (performance.now() > end) throw new Error(`${slot.name} does not get ready: ${await said(slot.url)}`)
          await delay(200)
        }
      }
    },
  }
  return fleet
}

async function isReady(url: string | null): Promise<boolean> {
  if (url === null) return false
  const response = await fetch(`${url}/readyz`).catch(() => null)
  await response?.arrayBuffer().catch(() => null)
  return response?.status === 200
}

async function said(url: string | null): Promise<string> {
  if (url === null) return 'it does not run'
  const response = await fetch(`${url}/readyz`).catch((error: Error) => error)
  return response instanceof Error ? response.message : await response.text()
}
