// Traffic: several writers at once, each sending requests of random size with events of random level and environment.

import { randomUUID } from 'node:crypto'
import { type Level, levels } from '../../server/protocol.ts'
import type { TestApp } from './app.ts'
import type { Random } from './random.ts'

export interface LoadOptions {
  events: number
  writers?: number
  /** Most events of a request. */
  atOnce?: number
  environments?: (string | null)[]
  /** Events belong to one of so many issues. */
  issues?: number
}

interface Answer {
  results?: { status: string }[]
}

/** Resolves when every event was accepted by one of the servers; what is refused is sent again, under the same id. */
export async function sendLoad(servers: TestApp[], random: Random, options: LoadOptions): Promise<void> {
  const { events, writers = 4, atOnce = 8, environments = ['production', 'staging', null], issues = 12 } = options
  let left = events

  function event() {
    const level: Level = random.pick(levels)
    const environment = random.pick(environments)
    const fingerprint = [`load ${random.below(issues)}`]
    const event_id = randomUUID().replaceAll('-', '')
    return { event_id, message: 'load', level, fingerprint, ...(environment === null ? {} : { environment }) }
  }

  async function writer(): Promise<void> {
    while (left > 0) {
      const size = Math.min(left, 1 + random.below(atOnce))
      left -= size
      let due = Array.from({ length: size }, event)
      for (let attempt = 1; due.length > 0; attempt++) {
        const refused = await sendBulk(random.pick(servers), due)
        if (attempt === 200) throw new Error(`events are refused again and again: ${refused.why}`)
        due = due.filter((_, index) => refused.indexes.has(index))
        if (due.length > 0) await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  }

  await Promise.all(Array.from({ length: writers }, writer))
}

async function sendBulk(server: TestApp, events: unknown[]): Promise<{ indexes: Set<number>; why: string }> {
  const all = (why: string) => ({ indexes: new Set(events.keys()), why })
  const response = await fetch(`${server.url}/api/v1/events/bulk`, {
    method: 'POST',
    headers: { authorization: `Bearer ${server.public_key}` },
    body: JSON.stringify(events),
  }).catch((error: Error) => error)
  if (response instanceof Error) return all(response.message)
  const text = await response.text()
  if (response.status !== 202) return all(`${response.status} ${text}`)
  const { results = [] } = JSON.parse(text) as Answer
  const indexes = new Set(events.keys())
  for (const [index, result] of results.entries()) if (result.status === 'accepted') indexes.delete(index)
  return { indexes, why: text }
}
