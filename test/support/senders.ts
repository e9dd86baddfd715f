// Clients that send until they are told to stop, through every door, and send again under the same id whatever was not
// acknowledged: what an SDK with a buffer does while servers come and go.

import { once } from 'node:events'
import { WebSocket } from 'ws'
import { newId } from './batch.ts'
import type { Random } from './random.ts'

export interface Senders {
  /** Every id that was ever sent. */
  sent: Set<string>
  /** Ids that were answered as accepted. */
  acknowledged: Set<string>
  /** Answers that no client should see: neither accepted nor to be sent again. */
  wrong: string[]
  /** The server to send to from now on. */
  aim(url: string): void
  /** No new events; resolves when all that were sent are acknowledged. */
  finish(): Promise<void>
}

interface Target {
  project_id: string
  public_key: string
}

type Door = (url: string, events: SentEvent[]) => Promise<void>

interface SentEvent {
  event_id: string
  message: string
  user: { id: number }
  tags: { door: string }
}

/** What a server that stops or is overloaded may say. */
const again = new Set([429, 503])

export function startSenders(first: string, { project_id, public_key }: Target, random: Random): Senders {
  const sent = new Set<string>()
  const acknowledged = new Set<string>()
  const wrong: string[] = []
  let url = first
  let stopping = false

  async function post(address: string, body: string): Promise<unknown> {
    const response = await fetch(`${address}?sentry_key=${public_key}`, { method: 'POST', body })
    const text = await response.text()
    if (response.ok) return JSON.parse(text)
    if (!again.has(response.status)) wrong.push(`${address}: ${response.status} ${text}`)
    return null
  }

  const envelope: Door = async (to, events) => {
    for (const event of events) {
      const body = `{"event_id":"${event.event_id}"}\n{"type":"event"}\n${JSON.stringify(event)}\n`
      if (await post(`${to}/api/${project_id}/envelope/`, body)) acknowledged.add(event.event_id)
    }
  }

  const bulk: Door = async (to, events) => {
    const answer = (await post(`${to}/api/v1/events/bulk`, JSON.stringify(events))) as { results: Answer[] } | null
    for (const result of answer?.results ?? []) take(result)
  }

  interface Answer {
    status: string
    id: string
    code?: string
  }
  function take(result: Answer) {
    if (result.status === 'accepted') acknowledged.add(result.id)
    else if (!['rate_limited', 'unavailable', 'shutting_down'].includes(result.code ?? ''))
      wrong.push(JSON.stringify(result))
  }

  /** One socket as long as its server lives. */
  function ingest(): Door {
    let socket: WebSocket | null = null
    let connectedTo = ''
    return async (to, events) => {
      if (!socket || connectedTo !== to || socket.readyState !== WebSocket.OPEN) {
        socket?.terminate()
        socket = new WebSocket(`${to.replace('http', 'ws')}/ingest?sentry_key=${public_key}`)
        socket.on('error', () => {})
        connectedTo = to
        await once(socket, 'open')
      }
      const mine = socket
      const due = new Set(events.map((event) => event.event_id))
      await new Promise<void>((resolve) => {
        const done = () => {
          mine.off('message', heard)
          mine.off('close', done)
          resolve()
        }
        const heard = (data: unknown) => {
          const answer = JSON.parse(String(data)) as Answer
          take(answer)
          due.delete(answer.id)
          if (due.size === 0) done()
        }
        mine.on('message', heard)
        mine.on('close', done)
        for (const event of events) mine.send(JSON.stringify(event))
      })
    }
  }

  function events(door: string): SentEvent[] {
    return Array.from({ length: 1 + random.below(12) }, () => {
      const event_id = newId()
      sent.add(event_id)
      return { event_id, message: `issue ${'abcdef'[random.below(6)]}`, user: { id: random.below(8) }, tags: { door } }
    })
  }

  async function run(name: string, door: Door): Promise<void> {
    while (!stopping) {
      for (let due = events(name); due.length > 0; ) {
        // The server may end at any moment: whatever went wrong, what has no answer is sent again.
        await door(url, due).catch(() => new Promise((resolve) => setTimeout(resolve, 20)))
        due = due.filter((event) => !acknowledged.has(event.event_id))
      }
    }
  }

  const running = [
    run('envelope', envelope),
    run('envelope', envelope),
    run('bulk', bulk),
    run('bulk', bulk),
    run('ingest', ingest()),
    run('ingest', ingest()),
  ]
  return {
    sent,
    acknowledged,
    wrong,
    aim(to) {
      url = to
    },
    async finish() {
      stopping = true
      await Promise.all(running)
    },
  }
}
