// Events through every door, to any server, at a rate. Whatever is not acknowledged is sent again under the same id, to
// another server as like as not; now and then an event is sent to two at once.

import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { WebSocket } from 'ws'
import { levels } from '../../server/protocol.ts'
import { createRandom, type Random } from '../support/random.ts'
import type { Fleet } from './fleet.ts'
import { backOff, pause } from './pace.ts'
import type { Story } from './story.ts'
import type { Project, World } from './world.ts'

/** Mesher's doors say whether an event was stored or dropped for its discarded issue, Sentry's only that it was taken. */
export type Answered = 'accepted' | 'dropped' | 'taken'

export interface Sent {
  project_id: string
  title: string
}

export interface Traffic {
  sent: Map<string, Sent>
  acknowledged: Map<string, Answered>
  /** Issues that events came to lately, by project. */
  issues: Map<string, string[]>
  /** No new events; resolves when all that were sent are acknowledged. Rejects when that takes too long. */
  finish(patience: number): Promise<void>
}

export interface TrafficOptions {
  world: World
  fleet: Fleet
  story: Story
  seed: number
  /** Events a second. */
  rate: number
}

export const environments = ['production', 'staging', 'dev', null]
/** Most of the events belong to one of so many issues of their project. */
const issuesOfProject = 40
const day = 86_400_000

interface SentEvent {
  event_id: string
  message: string
}

type Answer = { status?: string; id?: string | null; issue_id?: string; code?: string }
type Door = (events: SentEvent[], project: Project, say: (where: string) => void) => Promise<void>

/** What a server that stops, is overloaded or has no database may say. */
const again = new Set(['rate_limited', 'unavailable', 'shutting_down'])

export function startTraffic({ world, fleet, story, seed, rate }: TrafficOptions): Traffic {
  const sent: Traffic['sent'] = new Map()
  const acknowledged: Traffic['acknowledged'] = new Map()
  const issues: Traffic['issues'] = new Map(world.projects.map((project) => [project.id, []]))
  const sockets = new Set<WebSocket>()
  /** What each loop waits for just now. */
  const underWay = new Map<Door, string>()
  let stopping = false

  function take(project: Project, { status, id, issue_id, code }: Answer) {
    if ((status === 'accepted' || status === 'dropped') && id) {
      const before = acknowledged.get(id)
      if (before && before !== 'taken' && before !== status) story.note('traffic', `${id} was ${before}, now ${status}`)
      if (before !== 'accepted') acknowledged.set(id, status)
      const recent = issues.get(project.id)!
      if (issue_id) recent.push(issue_id)
      if (recent.length > 200) recent.splice(0, 100)
    } else if (!again.has(code ?? '')) story.wrong(`an event is answered ${JSON.stringify({ status, id, code })}`)
  }

  async function post(address: string, body: string, random: Random): Promise<Answer | null> {
    const zip = random.below(3) === 0
    const response = await fetch(address, {
      method: 'POST',
      body: zip ? gzipSync(body) : body,
      headers: zip ? { 'content-encoding': 'gzip' } : {},
    })
    const text = await response.text()
    if (response.ok) return JSON.parse(text)
    if (response.status === 429 || response.status === 503) {
      if (!response.headers.get('retry-after')) story.wrong(`${response.status} without Retry-After: ${text}`)
    } else story.wrong(`POST ${new URL(address).pathname} is answered ${response.status} ${text.slice(0, 300)}`)
    return null
  }

  /** Two POST doors of Sentry, two of Mesher, and /ingest with texts, arrays and envelopes. */
  function doors(random: Random): Door[] {
    async function target(path: string, { public_key }: Project, say: (where: string) => void) {
      const url = `${await fleet.pick(random)}${path}`
      say(url)
      return `${url}?sentry_key=${public_key}`
    }

    const envelope: Door = async (events, project, say) => {
      for (const event of events) {
        const body = envelopeOf(event, random)
        const answer = await post(await target(`/api/${project.id}/envelope/`, project, say), body, random)
        if (answer && !acknowledged.has(event.event_id)) acknowledged.set(event.event_id, 'taken')
      }
    }
    const store: Door = async (events, project, say) => {
      for (const event of events) {
        const to = await target(`/api/${project.id}/store/`, project, say)
        const answer = await post(to, JSON.stringify(event), random)
        if (answer && !acknowledged.has(event.event_id)) acknowledged.set(event.event_id, 'taken')
      }
    }
    const single: Door = async (events, project, say) => {
      for (const event of events) {
        const answer = await post(await target('/api/v1/events', project, say), JSON.stringify(event), random)
        if (answer) take(project, answer)
      }
    }
    const bulk: Door = async (events, project, say) => {
      const answer = await post(await target('/api/v1/events/bulk', project, say), JSON.stringify(events), random)
      for (const result of (answer as { results: Answer[] } | null)?.results ?? []) take(project, result)
    }
    return [envelope, envelope, store, single, bulk, bulk, ingest(random), ingest(random)]
  }

  /** One socket to one server and project, for as long as it lives. */
  function ingest(random: Random): Door {
    const open = new Map<string, WebSocket>()
    return async (events, project, say) => {
      let socket = open.get(project.id)
      if (socket?.readyState !== WebSocket.OPEN) {
        socket?.terminate()
        const url = (await fleet.pick(random)).replace('http', 'ws')
        socket = new WebSocket(`${url}/ingest?sentry_key=${project.public_key}`)
        socket.on('error', () => {})
        const mine = socket
        sockets.add(mine)
        mine.on('close', () => sockets.delete(mine))
        open.set(project.id, mine)
        await once(mine, 'open')
      }
      const mine = socket
      say(mine.url)
      const due = new Set(events.map((event) => event.event_id))
      await new Promise<void>((resolve) => {
        function done() {
          mine.off('message', heard)
          mine.off('close', done)
          resolve()
        }
        function heard(data: unknown) {
          const answer = JSON.parse(String(data)) as Answer
          take(project, answer)
          due.delete(answer.id ?? '')
          if (due.size === 0) done()
        }
        mine.on('message', heard)
        mine.on('close', done)
        if (random.below(2) === 0) mine.send(JSON.stringify(events))
        else {
          for (const event of events) {
            if (random.below(2) === 0) mine.send(JSON.stringify(event))
            else mine.send(Buffer.from(envelopeOf(event, random)))
          }
        }
      })
    }
  }

  function event(project: Project, random: Random): SentEvent {
    // Sixteen bytes from the seed: ids are the same in every run of it.
    const event_id = random.hex(32)
    const number = random.below(100) === 0 ? 1_000 + random.below(100_000) : random.below(issuesOfProject)
    const environment = random.pick(environments)
    const title = `issue ${number}`
    sent.set(event_id, { project_id: project.id, title })
    return {
      event_id,
      message: title,
      fingerprint: [title],
      level: random.pick(levels),
      ...(environment === null ? {} : { environment }),
      // A client whose clock is wrong.
      timestamp: new Date(Date.now() + (random.below(5) === 0 ? (random.below(2_000) - 1_000) * day : 0)).toISOString(),
      user: { id: String(random.below(30)) },
      tags: { door: String(random.below(7)) },
      extra: { padding: 'x'.repeat(random.below(2_400)) },
    } as SentEvent
  }

  async function run(project: Project, door: Door, random: Random, perSecond: number): Promise<void> {
    let next = performance.now()
    while (!stopping) {
      const size = 1 + random.below(12)
      const events = Array.from({ length: size }, () => event(project, random))
      for (let due = events, attempt = 0; due.length > 0; attempt++) {
        const since = new Date().toISOString()
        const say = (where: string) => underWay.set(door, `${where} since ${since}`)
        const sending = door(due, project, say)
        const twice = attempt === 0 && random.below(30) === 0 ? door(due, project, say).catch(() => {}) : null
        await sending.catch(() => {})
        await twice
        underWay.delete(door)
        due = due.filter(({ event_id }) => !acknowledged.has(event_id))
        if (due.length > 0) await delay(backOff(attempt, random))
      }
      next = Math.max(next + (1000 * size) / perSecond, performance.now() - 2_000)
      await pause(Math.max(0, next - performance.now()))
    }
  }

  const running: Promise<void>[] = []
  // Each of the eight doors for every 50 events a second: who waits for an answer sends nothing else.
  const perProject = 8 * Math.ceil(rate / 50)
  const loops = world.projects.length * perProject
  for (const [p, project] of world.projects.entries()) {
    for (const index of Array.from({ length: perProject }).keys()) {
      const random = createRandom(seed + 500 + p * perProject + index)
      // Three quarters of the traffic belong to the first project.
      const share = p === 0 ? 0.75 : 0.25 / (world.projects.length - 1)
      running.push(run(project, doors(random)[index % 8]!, random, (rate * share * world.projects.length) / loops))
    }
  }

  return {
    sent,
    acknowledged,
    issues,
    async finish(patience) {
      stopping = true
      const late = delay(patience, 'late', { ref: false })
      const how = await Promise.race([Promise.all(running), late])
      for (const socket of sockets) socket.terminate()
      if (how !== 'late') return
      const open = [...sent.keys()].filter((id) => !acknowledged.has(id))
      throw new Error(
        [
          `${open.length} events are not answered after ${patience} ms: ${open.slice(0, 5)}`,
          ...[...underWay.values()].sort().slice(0, 5),
        ].join('\n  waits at '),
      )
    },
  }
}

function envelopeOf(event: SentEvent, random: Random): string {
  const sent_at = new Date(Date.now() + (random.below(5) === 0 ? (random.below(2_000) - 1_000) * day : 0)).toISOString()
  const header = JSON.stringify({ event_id: event.event_id, sent_at })
  const session = random.below(4) === 0 ? '{"type":"session"}\n{"sid":"1"}\n' : ''
  return `${header}\n${session}{"type":"event"}\n${JSON.stringify(event)}\n`
}
