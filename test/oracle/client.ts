// A dashboard that keeps to protocol.md, whatever happens to it: it comes back with its cursor, resumes from a `gap`, reads
// state anew at `resync`, and folds what it is told. Each has a temper: how it disturbs its own connection.

import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { type Filters, levels, type ServerMessage } from '../../server/protocol.ts'
import type { Random } from '../support/random.ts'
import type { Fleet } from './fleet.ts'
import { backOff } from './pace.ts'
import type { Reader } from './reader.ts'
import type { Story } from './story.ts'
import { environments } from './traffic.ts'
import { isChangeOwed, isOwed, matches, type Period, sketch, type Truth } from './truth.ts'
import type { World } from './world.ts'

export const tempers = ['steady', 'cut', 'slow', 'change', 'fresh', 'away'] as const
export type Temper = (typeof tempers)[number]

export interface Client {
  name: string
  project_id: string
  /** Stops disturbing itself, and is connected. */
  settle(): Promise<void>
  disturb(): void
  /** What is wrong with what it holds; an empty list when it is exactly what was committed. `old` are ids of former rounds. */
  problems(truth: Truth, old: Set<string>): string[]
  /** Forgets what was checked; everything from this transaction on is owed. */
  nextRound(from: bigint): void
  counts: { connections: number; gaps: number; resyncs: number; messages: number }
  leave(): void
}

export interface ClientOptions {
  name: string
  temper: Temper
  /** Takes samples in a storm. */
  sample: boolean
  project_id: string
  world: World
  fleet: Fleet
  reader: Reader
  story: Story
  random: Random
}

type IssueMessage = Extract<ServerMessage, { type: 'issue' }>

export function createClient(options: ClientOptions): Client {
  const { name, temper, sample, project_id, world, fleet, reader, story, random } = options
  let socket: WebSocket | null = null
  let away = false
  /** To connect, since it was last subscribed. */
  let attempts = 0
  let life = new AbortController()
  let disturbing: Promise<void> = Promise.resolve()

  // What it was told.
  let events = new Map<string, string>()
  let actions = new Map<string, number>()
  let unresolved: number | null = null
  let issues = new Map<string, string>()
  let foreign: string[] = []
  /** Issue messages that came while state is read; null when it is not. */
  let reading: IssueMessage[] | null = null
  let reads = 0
  /** `rate` said that events were left out: which ones is not known. */
  let sampled = false

  // Where it stands.
  let wanted: Filters = someFilters()
  let allFilters: Filters[] = [wanted]
  let cursor = ''
  /** Cursors of `subscribe` messages without an answer yet: what comes before it does not move the cursor. */
  const asked = new Map<number, string>()
  let ref = 0
  let periods: Period[] = []
  /** What the answer just before asked for; `resync` behind it stands for that. */
  let answered = ''
  /** Not told, and said so by `resync`. */
  let excused: { from: bigint; until: number }[] = []
  const counts = { connections: 0, gaps: 0, resyncs: 0, messages: 0 }

  const note = (what: string) => story.note(name, what)
  const pause = (ms: number) => delay(ms, undefined, { signal: life.signal }).catch(() => {})
  /** `<epoch>-<xid>`; the epoch is the same as long as the database lives. */
  const xidOf = (text: string) => BigInt(text.split('-')[1] ?? 0)
  const show = ({ level, environment }: Filters) => `[${level}] [${environment}]`

  function someFilters(): Filters {
    const some = <T>(list: readonly T[]) => random.shuffled(list).slice(0, 1 + random.below(2))
    return {
      level: random.below(2) === 0 ? [] : some(levels),
      environment: random.below(3) > 0 ? [] : some(environments.filter((one) => one !== null)),
    }
  }

  /** From where it has to resume: what was asked for and not answered was not had. */
  function resumeCursor(): string {
    let least = cursor
    for (const one of asked.values()) if (xidOf(one) < xidOf(least)) least = one
    return least
  }

  async function connect(): Promise<void> {
    const mine = await open()
    if (away || socket !== null) return mine.terminate()
    socket = mine
    const since = cursor
    const filters = wanted
    mine.on('message', (data) => {
      if (mine === socket) receive(JSON.parse(String(data)) as ServerMessage, since, filters)
    })
    mine.on('close', (code, reason) => {
      if (mine !== socket) return
      socket = null
      cursor = resumeCursor()
      asked.clear()
      note(`closed with ${code} ${reason}, cursor ${cursor}`)
      if (![1001, 1006, 4408, 4503].includes(code)) story.wrong(`${name} was closed with ${code} ${reason}`)
      if (!away) setTimeout(comeBack, backOff(attempts++, random))
    })
  }

  async function open(): Promise<WebSocket> {
    const query = new URLSearchParams()
    for (const one of wanted.level) query.append('level', one)
    for (const one of wanted.environment) query.append('environment', one)
    if (cursor !== '') query.append('since', cursor)
    if (!sample) query.append('sample', 'false')
    const url = `${(await fleet.pick(random)).replace('http', 'ws')}/stream/projects/${project_id}?${query}`
    const fresh = new WebSocket(url, { headers: { authorization: `Bearer ${world.token}` } })
    fresh.on('error', () => {})
    return fresh
  }

  function comeBack() {
    if (!away && socket === null) connect()
  }

  /** Without a cursor: everything is read anew. */
  function forget() {
    cursor = ''
    reads += 1
    reading = null
    events = new Map()
    actions = new Map()
    issues = new Map()
    periods = []
    excused = []
    sampled = false
    allFilters = [wanted]
  }

  function begin(filters: Filters, since: string) {
    const last = periods.at(-1)
    if (last && since !== '' && show(last.filters) === show(filters)) return
    // The clock's last digit is cut off here, and not there.
    periods.push({ filters, since: since === '' ? null : xidOf(since), from: Date.now() + 1 })
  }

  function receive(message: ServerMessage, since: string, filters: Filters) {
    counts.messages += 1
    if ('project_id' in message && message.project_id !== project_id) foreign.push(JSON.stringify(message))
    switch (message.type) {
      case 'subscribed':
        counts.connections += 1
        attempts = 0
        unresolved = message.unresolved
        begin(filters, since)
        answered = since
        note(`subscribed ${show(filters)} since ${since}, at ${message.cursor}`)
        if (since === '') readState()
        break
      case 'filters_updated': {
        unresolved = message.unresolved
        const from = asked.get(message.ref as number)
        asked.delete(message.ref as number)
        begin(message.filters, from ?? '')
        answered = from ?? ''
        note(`has filters ${show(message.filters)} since ${from}, at ${message.cursor}`)
        break
      }
      case 'event':
        events.set(message.data.id, `${message.issue_id} ${message.data.level} ${message.data.environment}`)
        break
      case 'issue':
        if (reading) reading.push(message)
        else fold(message)
        break
      case 'issue_count':
        unresolved = message.count
        break
      case 'gap':
        counts.gaps += 1
        note(`gap ${message.reason} at ${message.cursor}`)
        subscribe(message.cursor)
        break
      case 'resync':
        counts.resyncs += 1
        note(`resync ${message.reason} at ${message.cursor}`)
        if (message.reason !== 'bulk_change') {
          excused.push({ from: xidOf(answered === '' ? resumeCursor() : answered), until: Date.now() + 1 })
        }
        readState()
        break
      case 'rate':
        if (!sample) story.wrong(`${name} is shown samples, and asked for all`)
        if (message.shown < message.events) sampled = true
        break
      case 'error':
        story.wrong(`${name} is answered ${JSON.stringify(message)}`)
    }
    if (message.type !== 'subscribed' && message.type !== 'filters_updated') answered = ''
    if ('cursor' in message && asked.size === 0) cursor = message.cursor
  }

  function fold(message: IssueMessage) {
    if (message.issue === null) issues.delete(message.issue_id)
    else issues.set(message.issue_id, sketch(message.issue))
    const what = `${message.action} ${message.issue_id}`
    actions.set(what, (actions.get(what) ?? 0) + 1)
  }

  /** What comes meanwhile is folded after it: it may be newer. */
  function readState() {
    const earlier = reading ?? []
    for (const message of earlier) fold(message)
    reading = []
    const mine = ++reads
    reader.read(project_id).then((found) => {
      if (mine !== reads) return
      issues = new Map(found)
      const later = reading ?? []
      reading = null
      for (const message of later) fold(message)
    })
  }

  /** `since` empty: from now on. */
  function subscribe(since: string) {
    if (socket?.readyState !== WebSocket.OPEN) return
    ref += 1
    if (since !== '') asked.set(ref, since)
    socket.send(JSON.stringify({ type: 'subscribe', filters: wanted, sample, ref, ...(since === '' ? {} : { since }) }))
  }

  async function disturbances(): Promise<void> {
    while (!life.signal.aborted && temper !== 'steady') {
      await pause(temper === 'slow' ? 100 + random.below(800) : 300 + random.below(3_000))
      if (life.signal.aborted) break
      if (temper === 'cut') socket?.terminate()
      if (temper === 'slow') {
        const mine = socket
        note('stops reading')
        mine?.pause()
        await pause(1_500 + random.below(4_500))
        mine?.resume()
        note('reads again')
      }
      if (temper === 'change' && socket?.readyState === WebSocket.OPEN) {
        wanted = someFilters()
        allFilters.push(wanted)
        subscribe(random.below(2) === 0 ? '' : resumeCursor())
      }
      if (temper === 'fresh' || temper === 'away') {
        away = true
        const mine = socket
        socket = null
        if (mine) cursor = resumeCursor()
        asked.clear()
        mine?.terminate()
        note(temper === 'fresh' ? 'starts anew' : `goes away, cursor ${cursor}`)
        await pause(200 + random.below(3_000))
        if (temper === 'fresh') forget()
        away = false
        comeBack()
      }
    }
  }

  function missing(truth: Truth): string[] {
    const isExcused = ({ xid, at }: { xid: bigint; at: number }) =>
      excused.some(({ from, until }) => xid >= from && at <= until)
    const due = sampled ? [] : [...truth.events.values()].filter((event) => isOwed(periods, event) && !isExcused(event))
    const lost = due.filter((event) => !event.gone && !events.has(event.id))
    const owedActions = new Map<string, { times: number; xids: bigint[] }>()
    for (const change of truth.changes) {
      if (change.bulk || !isChangeOwed(periods, change) || isExcused(change)) continue
      const owed = owedActions.get(change.what) ?? { times: 0, xids: [] }
      owedActions.set(change.what, { times: owed.times + 1, xids: [...owed.xids, change.xid] })
    }
    const lostActions = [...owedActions].filter(([what, { times }]) => (actions.get(what) ?? 0) < times)
    return [
      ...lost.slice(0, 3).map(({ id, xid, at }) => `event ${id} of transaction ${xid} (${new Date(at).toISOString()})`),
      ...(lost.length > 3 ? [`and ${lost.length - 3} events more of ${due.length}`] : []),
      ...lostActions
        .slice(0, 3)
        .map(([what, { xids }]) => `"${what}" of transactions ${xids}, told ${actions.get(what) ?? 0}`),
      ...(lostActions.length > 3 ? [`and ${lostActions.length - 3} changes more`] : []),
    ].map((what) => `was not told ${what}`)
  }

  /** Never committed, of another project, not what it asked for, not what was stored. */
  function invented(truth: Truth, old: Set<string>): string[] {
    const found: string[] = foreign.map((text) => `was told of another project: ${text}`)
    for (const [id, told] of events) {
      const event = truth.events.get(id)
      if (event) {
        const is = `${event.issue_id} ${event.level} ${event.environment}`
        if (told !== is) found.push(`was told event ${id} as ${told}, but it is ${is}`)
        if (!allFilters.some((filters) => matches(filters, event))) found.push(`never asked for event ${id}: ${told}`)
      } else if (!old.has(id)) found.push(`was told event ${id}, which was never committed`)
    }
    const real = new Set(truth.changes.map((change) => change.what))
    for (const what of actions.keys()) {
      if (!real.has(what) && !old.has(what)) found.push(`was told "${what}", which was never committed`)
    }
    return found
  }

  function folded(truth: Truth): string[] {
    const wrong: string[] = []
    if (unresolved !== truth.unresolved)
      wrong.push(`counts ${unresolved} unresolved issues, but there are ${truth.unresolved}`)
    for (const [id, is] of truth.issues) {
      if (issues.get(id) !== is) wrong.push(`holds issue ${id} as ${issues.get(id)}, but it is ${is}`)
    }
    for (const [id, is] of issues) if (!truth.issues.has(id)) wrong.push(`holds issue ${id}, which is gone: ${is}`)
    return wrong
  }

  const firstOf = (list: string[]) =>
    list.length > 4 ? [...list.slice(0, 4), `and ${list.length - 4} more like this`] : list

  connect()
  return {
    name,
    project_id,
    counts,
    async settle() {
      life.abort()
      await disturbing
      away = false
      comeBack()
    },
    disturb() {
      life = new AbortController()
      disturbing = disturbances()
    },
    problems(truth, old) {
      if (socket?.readyState !== WebSocket.OPEN || periods.length === 0) return ['is not connected']
      if (asked.size > 0) return ['has no answer to its subscribe']
      if (reading) return ['has not read its state']
      return [invented(truth, old), missing(truth), folded(truth)].flatMap(firstOf)
    },
    nextRound(from) {
      events = new Map()
      actions = new Map()
      excused = []
      sampled = false
      foreign = []
      periods = [{ filters: wanted, since: from, from: Date.now() + 1 }]
      allFilters = [wanted]
    },
    leave() {
      away = true
      life.abort()
      socket?.terminate()
    },
  }
}
