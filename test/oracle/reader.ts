// State over HTTP, as protocol.md wants a client to read it at `resync`: all issues of a project. Clients that ask at the
// same time share a read that begins after they asked.

import { setTimeout as delay } from 'node:timers/promises'
import type { IssueSummary } from '../../server/protocol.ts'
import type { Random } from '../support/random.ts'
import type { Fleet } from './fleet.ts'
import { sketch } from './truth.ts'
import type { World } from './world.ts'

export interface Reader {
  read(projectId: string): Promise<Map<string, string>>
}

interface Page {
  data: IssueSummary[]
  next_cursor: string | null
}

export function createReader(world: World, fleet: Fleet, random: Random): Reader {
  const current = new Map<string, Promise<Map<string, string>>>()
  const next = new Map<string, Promise<Map<string, string>>>()

  async function page(projectId: string, cursor: string | null): Promise<Page> {
    for (;;) {
      const query = new URLSearchParams({ limit: '100', ...(cursor ? { cursor } : {}) })
      const response = await fetch(`${await fleet.pick(random)}/api/v1/projects/${projectId}/issues?${query}`, {
        headers: { authorization: `Bearer ${world.token}` },
      }).catch(() => null)
      const text = await response?.text().catch(() => null)
      if (response?.ok && text) return JSON.parse(text) as Page
      await delay(200)
    }
  }

  // Pages are ordered by the last event, so an issue that gets one between two pages may stand in neither. Who gets
  // events stands at the top: one more look at the first page, which is one query, finds them.
  async function readAll(projectId: string): Promise<Map<string, string>> {
    for (;;) {
      const began = Date.now() - 1_000
      const found = new Map<string, string>()
      const pages: Page[] = []
      for (let cursor: string | null = null; ; ) {
        const one = await page(projectId, cursor)
        pages.push(one)
        cursor = one.next_cursor
        if (!cursor) break
      }
      const top = pages.length > 1 ? await page(projectId, null) : pages[0]!
      for (const one of [...pages, top]) for (const issue of one.data) found.set(issue.id, sketch(issue))
      const last = top.data.at(-1)
      if (pages.length === 1 || !last || new Date(last.last_seen).getTime() < began) return found
      if (pages.length > 1 && top.next_cursor === null) return found
    }
  }

  function begin(projectId: string): Promise<Map<string, string>> {
    const reading = readAll(projectId).finally(() => {
      if (current.get(projectId) === reading) current.delete(projectId)
    })
    current.set(projectId, reading)
    return reading
  }

  return {
    read(projectId) {
      const running = current.get(projectId)
      if (!running) return begin(projectId)
      const waiting =
        next.get(projectId) ??
        running.then(() => {
          next.delete(projectId)
          return begin(projectId)
        })
      next.set(projectId, waiting)
      return waiting
    },
  }
}
