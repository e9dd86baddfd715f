// Notifications of committed changes -> messages to the topics of their project. Nothing is published that did not come
// from channel `mesher` or, after the listener was away, from the tables.
//
// States: live (notifications are published as they come), lost (there is no listener; subscribers hear marks only),
// catching up (LISTEN is in force again: what comes is held while the missed changes are read and published).
// What comes soon after a flush is published together: uWebSockets.js then writes each socket once, worth a factor of ten.
// How soon is twice what writing the last flush's sockets costs, so that no more than a third of a core goes into it, and
// 5 ms at most: for 200 dashboards 2 ms, which a waiting message sees the half of. Idle, a message leaves in the same turn of
// the event loop.

import type { Log } from '../log.ts'
import type { ChangeEntry, EventEntry, Notification } from '../notify/channels.ts'
import { type Level, markInterval } from '../protocol.ts'
import type { Service } from '../service.ts'
import { cursorFrom, type Position } from './cursor.ts'
import { type Change, encode, eventChange, issueChange } from './messages.ts'
import { Place, Stream } from './place.ts'
import type { Replay, Snapshot } from './replay.ts'
import { createSampler } from './sampler.ts'
import { projectTopic, rateTopic, topicsOfEvent } from './topics.ts'

type Counted = Extract<Notification, { action: 'events' | 'issues' | 'bulk' }>

export interface Relay extends Service {
  handle(notification: Notification): void
  lost(): void
  connected(): void
  enter(projectId: string): Place
  /** Publishes what is pending, now. */
  flush(): void
  /** Resolves when notifications are being heard and nothing is being caught up. */
  ready(): Promise<void>
  state(): 'live' | 'lost' | 'catching_up'
}

export interface RelayOptions {
  publish(topic: string, text: string): void
  replay: Replay
  log: Log
  /** The most milliseconds that messages wait for company under load. */
  window?: number
  /** Milliseconds between marks. */
  markEvery?: number | undefined
  onMessages?(count: number): void
  onGap?(): void
}

/** More transactions than pass between two heartbeats of any server. */
const farAhead = 10_000_000n
/** Milliseconds between the points of the trail, and how many are kept. */
const trailStep = 250
const trailLength = 8
/** Milliseconds for each socket of the last flush: twice what the kernel takes to write to one and to hand it over. */
const windowPerSocket = 0.01
/** Notifications held while catching up; beyond it subscribers are told of a gap. */
const mostHeld = 20_000

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

export function createRelay(options: RelayOptions): Relay {
  const { log, replay } = options
  const longestWindow = options.window ?? 5
  let window = 0
  const streams = new Map<string, Stream>()
  let state: 'live' | 'lost' | 'catching_up' = 'lost'
  let position: Position = { epoch: '', xid: 0n }
  /** Where the cursor was in the last two seconds, the oldest first. */
  let trail: { at: number; position: Position }[] = []
  let held: Notification[] = []
  let generation = 0
  let pending: { topic: string; text: string }[] = []
  /** Whose sockets what is pending goes to. */
  const touched = new Set<Stream>()
  let lastFlush = 0
  let timer: NodeJS.Timeout | undefined
  let immediate: NodeJS.Immediate | undefined
  let marks: NodeJS.Timeout | undefined
  let rates: NodeJS.Timeout | undefined
  let stopped = false
  const waiters: (() => void)[] = []

  const cursor = () => cursorFrom(position)

  /** Anybody who may connect to the database can NOTIFY: a horizon that transactions cannot have reached is not believed. */
  function advance(xid: string) {
    const at = BigInt(xid)
    if (at > position.xid && at - position.xid < farAhead) position = { epoch: position.epoch, xid: at }
  }

  function schedule(stream: Stream) {
    touched.add(stream)
    if (timer || immediate) return
    const wait = window - (performance.now() - lastFlush)
    if (wait <= 0) immediate = setImmediate(flush)
    else timer = setTimeout(flush, wait)
  }

  function flush() {
    clearTimeout(timer)
    clearImmediate(immediate)
    timer = undefined
    immediate = undefined
    const messages = pending
    pending = []
    let sockets = 0
    for (const { places } of touched) sockets += places
    touched.clear()
    window = Math.min(longestWindow, sockets * windowPerSocket)
    lastFlush = performance.now()
    if (lastFlush - (trail.at(-1)?.at ?? lastFlush) > trailStep)
      trail = [...trail.slice(1 - trailLength), { at: lastFlush, position }]
    for (const { topic, text } of messages) options.publish(topic, text)
    if (messages.length > 0) options.onMessages?.(messages.length)
  }

  function send(stream: Stream, text: string, version: number | null = null) {
    pending.push({ topic: projectTopic(stream.project_id), text })
    stream.collect({ change: null, version, text, shown: true })
    schedule(stream)
  }

  function sendChange(stream: Stream, change: Change, topics: string[], shown = true) {
    for (const topic of topics) pending.push({ topic, text: change.text })
    if (stream.isTapped) stream.collect({ change, version: null, text: change.text, shown })
    schedule(stream)
  }

  function sendEvents(stream: Stream, events: EventEntry[]) {
    const now = performance.now()
    for (const entry of events) {
      const shown = stream.sampler.take(now)
      const topics = eventTopics(stream, entry.level, entry.environment ?? null, shown)
      if (topics.length > 0 || stream.isTapped) {
        sendChange(stream, eventChange(stream.project_id, cursor(), entry), topics, shown)
      }
    }
  }

  /** Only those that somebody has subscribed to. */
  function eventTopics(stream: Stream, level: Level, environment: string | null, shown: boolean): string[] {
    const all = topicsOfEvent(stream.project_id, 'all', level, environment)
    const topics = shown ? [...all, ...topicsOfEvent(stream.project_id, 'e', level, environment)] : all
    return topics.filter((topic) => stream.has(topic))
  }

  /** Once a second: in a storm, how much of it was shown. */
  function tellRates() {
    for (const stream of streams.values()) {
      const counted = stream.sampler.report()
      if (!counted) continue
      const text = encode({ type: 'rate', project_id: stream.project_id, ...counted, seconds: 1, cursor: cursor() })
      pending.push({ topic: rateTopic(stream.project_id), text })
      schedule(stream)
    }
  }

  function sendIssues(stream: Stream, issues: ChangeEntry[]) {
    for (const entry of issues) {
      sendChange(stream, issueChange(stream.project_id, cursor(), entry), [projectTopic(stream.project_id)])
    }
  }

  function sendCount(stream: Stream, unresolved: number, version: number) {
    if (version <= stream.version) return
    stream.version = version
    stream.unresolved = unresolved
    send(
      stream,
      encode({ type: 'issue_count', project_id: stream.project_id, count: unresolved, cursor: cursor() }),
      version,
    )
  }

  /** Something was committed that is not told one by one. */
  function sendResync(stream: Stream) {
    const { project_id } = stream
    send(stream, encode({ type: 'resync', project_id, reason: 'bulk_change', cursor: cursor() }))
  }

  function deliver(notification: Counted, seen?: Set<string>) {
    const stream = streams.get(notification.project_id)
    if (!stream) return
    if (notification.action === 'events')
      sendEvents(
        stream,
        notification.events.filter((entry) => !seen?.has(`e${entry.id}`)),
      )
    if (notification.action === 'issues')
      sendIssues(
        stream,
        notification.issues.filter((entry) => !seen?.has(`a${entry.activity_id}`)),
      )
    if (notification.action === 'bulk' || notification.unreadable > 0) sendResync(stream)
    sendCount(stream, notification.unresolved, notification.version)
  }

  function handle(notification: Notification) {
    if (notification.action === 'keys' || notification.action === 'access') return
    if (state !== 'live') {
      if (held.length < mostHeld) held.push(notification)
      return
    }
    advance(notification.cursor)
    if (notification.action !== 'heartbeat') deliver(notification)
  }

  async function catchUp(mine: number): Promise<void> {
    await replay.epoch()
    const from = position
    let horizon: Position | null = null
    const seen = new Set<string>()
    for (const stream of [...streams.values()]) {
      const snapshot = await replay.read(stream.project_id, from.epoch === '' ? null : from)
      if (mine !== generation) return
      horizon ??= snapshot.position
      if (streams.get(stream.project_id) !== stream) continue
      tellWhatIsMissing(stream, snapshot)
      for (let number = 0; ; number++) {
        const changes = await snapshot.page(number)
        if (mine !== generation) return
        if (!changes) break
        publishMissed(stream, changes, seen)
        // Between pages the sockets are written and others get their turn.
        flush()
        await nextTurn()
      }
      if (mine !== generation) return
      tellCount(stream, snapshot)
    }
    // Without subscribers nobody holds an older cursor: the present will do.
    position = horizon ?? (await replay.read('0', null)).position
    if (mine !== generation) return
    resume(seen)
  }

  function tellWhatIsMissing(stream: Stream, snapshot: Snapshot) {
    const { project_id } = stream
    const at = cursorFrom(snapshot.position)
    if (snapshot.reason === 'cursor_foreign') {
      send(stream, encode({ type: 'resync', project_id, reason: 'cursor_foreign', cursor: at }))
    } else if (snapshot.reason === 'cursor_too_old') {
      options.onGap?.()
      send(stream, encode({ type: 'gap', project_id, reason: 'listener_lost', dropped: null, cursor: cursor() }))
    }
  }

  function publishMissed(stream: Stream, changes: Change[], seen: Set<string>) {
    for (const change of changes) {
      seen.add(change.key)
      const topics = change.event
        ? eventTopics(stream, change.event.level, change.event.environment, true)
        : [projectTopic(stream.project_id)]
      sendChange(stream, change, topics)
    }
  }

  function tellCount(stream: Stream, { unresolved, version, reason, position: at }: Snapshot) {
    if (version <= stream.version && reason === null) return
    stream.version = version
    stream.unresolved = unresolved
    const { project_id } = stream
    send(stream, encode({ type: 'issue_count', project_id, count: unresolved, cursor: cursorFrom(at) }), version)
  }

  function resume(seen: Set<string>) {
    const waited = held
    held = []
    trail = [{ at: performance.now(), position }]
    state = 'live'
    if (waited.length >= mostHeld) {
      options.onGap?.()
      for (const stream of streams.values()) {
        const gap = { type: 'gap', reason: 'listener_lost', dropped: null, cursor: cursor() } as const
        send(stream, encode({ ...gap, project_id: stream.project_id }))
      }
    }
    for (const notification of waited) {
      if (notification.action === 'keys' || notification.action === 'access') continue
      advance(notification.cursor)
      if (notification.action !== 'heartbeat') deliver(notification, seen)
    }
    log.info('relay.live', { cursor: cursor() })
    for (const wake of waiters.splice(0)) wake()
  }

  function mark() {
    flush()
    for (const stream of streams.values()) {
      const text = encode({
        type: 'mark',
        project_id: stream.project_id,
        server_time: new Date().toISOString(),
        cursor: cursor(),
      })
      options.publish(projectTopic(stream.project_id), text)
    }
  }

  const present = {
    cursor,
    // Drops are reported within a few turns of the event loop: what was published two seconds ago was taken.
    gapCursor: () => cursorFrom(trail[0]?.position ?? position),
    left: (stream: Stream) => void streams.delete(stream.project_id),
  }

  function enter(projectId: string): Place {
    const stream = streams.get(projectId) ?? new Stream(projectId, createSampler(performance.now()))
    streams.set(projectId, stream)
    return new Place(stream, present)
  }

  return {
    name: 'relay',
    async start() {
      marks = setInterval(mark, options.markEvery ?? (markInterval * 2) / 3)
      rates = setInterval(tellRates, 1_000)
    },
    async stop() {
      stopped = true
      generation += 1
      clearInterval(marks)
      clearInterval(rates)
      flush()
      for (const wake of waiters.splice(0)) wake()
    },
    handle,
    lost() {
      state = 'lost'
      generation += 1
      held = []
      flush()
    },
    connected() {
      state = 'catching_up'
      generation += 1
      held = []
      const mine = generation
      const attempt = (wait: number) => {
        catchUp(mine).catch((error) => {
          if (mine !== generation) return
          log.warn('relay.catch_up_failed', { error })
          setTimeout(() => mine === generation && attempt(Math.min(wait * 2, 1_000)), wait)
        })
      }
      attempt(50)
    },
    enter,
    flush,
    ready: () => (state === 'live' || stopped ? Promise.resolve() : new Promise((resolve) => waiters.push(resolve))),
    state: () => state,
  }
}
