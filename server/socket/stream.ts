// One dashboard's connection: `/stream/projects/:project`. States:
//   joining  no topic is subscribed; a tap collects what the project's subscribers are sent meanwhile, the tables are read,
//            and then, in one turn of the event loop: what was missed, what the tap holds, and the topics. Nothing can
//            fall between, and what came twice is left out.
//   live     native topics do the work; nothing of this file runs for a message
//   lagging  the socket's buffer was full and something was dropped: no topics until it takes messages again, then `gap`
//            and topics; one that stays slow is closed
// Messages of the client are handled one after the other; a second `subscribe` waits for the first to be in force.

import { AppError } from '../errors.ts'
import type { Peer } from '../http/types.ts'
import type { Log } from '../log.ts'
import { ClientMessage, closeCodes, type Filters, maxBufferedBytes, type Ref, type ServerMessage } from '../protocol.ts'
import { cursorFrom, type Position, parseCursor } from '../relay/cursor.ts'
import type { Place, Tap } from '../relay/relay.ts'
import type { Snapshot } from '../relay/replay.ts'
import { matches, projectTopic, rateTopic, topicsOfFilters } from '../relay/topics.ts'

export interface StreamSession {
  readonly token_id: string
  readonly project_id: string
  message(bytes: Buffer, isBinary: boolean): void
  dropped(): void
  drain(): void
  end(code: number, reason: string): void
  closed(): void
}

export interface StreamDeps {
  relay: { enter(projectId: string): Place; flush(): void; ready(): Promise<void> }
  read(projectId: string, since: Position | null): Promise<Snapshot>
  /** Bounds how many sockets read and send a replay at once; the others wait in line. */
  limit<T>(work: () => Promise<T>): Promise<T>
  log: Log
  onGap?(): void
  /** Milliseconds that a socket may stay slow. */
  slowLimit?: number | undefined
  /** Milliseconds that a subscription waits for a database that is away. */
  databaseLimit?: number | undefined
}

export interface StreamStart {
  token_id: string
  project_id: string
  filters: Filters
  sample: boolean
  since: string | null
}

/** What a `subscribe` message asks for. */
interface Change {
  filters: Filters
  sample: boolean
  since?: string | undefined
  ref?: Ref | undefined
}

/** While a replay is sent, no more than this waits in the socket. */
const replayBuffer = maxBufferedBytes / 4
const mostWaitingMessages = 32
/** Milliseconds that a socket may leave its replay unread: others wait in line behind it. */
const joinLimit = 5_000
/** How often a socket that joins in a storm reads the tables again. */
const mostRounds = 3

export function createStreamSession(peer: Peer<unknown>, start: StreamStart, deps: StreamDeps): StreamSession {
  const { project_id, token_id } = start
  const place = deps.relay.enter(project_id)
  let filters = start.filters
  let sample = start.sample
  let state: 'joining' | 'live' | 'lagging' = 'joining'
  let subscribed: string[] = []
  let gapCursor = ''
  let slowSince = 0
  let slowTimer: NodeJS.Timeout | undefined
  let onDrain = () => {}
  let waiting = 0
  let work: Promise<void> = Promise.resolve()
  const slowLimit = deps.slowLimit ?? 30_000
  // Shorter than a client waits for a mark.
  const databaseLimit = deps.databaseLimit ?? 10_000

  /** False when the socket did not take it. */
  function send(message: ServerMessage): boolean {
    return peer.send(JSON.stringify(message))
  }

  function subscribe() {
    const events = topicsOfFilters(project_id, sample ? 'e' : 'all', filters)
    subscribed = [projectTopic(project_id), ...events, ...(sample ? [rateTopic(project_id)] : [])]
    place.addTopics(subscribed)
    for (const topic of subscribed) peer.subscribe(topic)
  }

  function unsubscribe() {
    for (const topic of subscribed) peer.unsubscribe(topic)
    place.removeTopics(subscribed)
    subscribed = []
  }

  /** One job at a time, in the order they came; what fails closes the socket, and the client comes back with its cursor. */
  function enqueue(job: () => Promise<void> | void) {
    waiting += 1
    work = work
      .then(() => (peer.closed ? undefined : job()))
      .catch((error) => {
        if (error instanceof AppError) return peer.end(closeCodes.unavailable, error.message)
        deps.log.error('stream.failed', { project_id, error })
        peer.end(1011, 'internal error: come back with the last cursor')
      })
      .finally(() => {
        waiting -= 1
      })
  }

  type Answer = (present: { unresolved: number; cursor: string }) => ServerMessage

  async function join(since: Position | null, answer: Answer): Promise<void> {
    unsubscribe()
    clearInterval(slowTimer)
    state = 'joining'
    let answerNow: Answer | null = answer
    // A tap that overflowed while a large replay was sent: once more, from there.
    for (let from: Position | null = since, round = 1; from !== undefined && !peer.closed; round += 1) {
      const position: Position | null = from
      await answered(deps.relay.ready(), performance.now() + databaseLimit)
      // What was read stays in memory until it is sent, so no more than a few sockets do both at once.
      const next: Position | undefined = await (position ? deps.limit : atOnce)(() =>
        joinOnce(position, answerNow, round),
      )
      answerNow = null
      if (next === undefined) return
      from = next
    }
  }

  const atOnce = <T>(work: () => Promise<T>): Promise<T> => work()

  /** Where to read again from; undefined when the socket is live, or gone. */
  async function joinOnce(from: Position | null, answer: Answer | null, round: number): Promise<Position | undefined> {
    const read = await readPatiently(from)
    try {
      if (!read || peer.closed) return undefined
      const { snapshot, tap } = read
      place.learn(snapshot)
      await sendSnapshot(snapshot, from, answer)
      if (peer.closed) return undefined
      deps.relay.flush()
      if (tap.overflow && round < mostRounds) return snapshot.position
      // More comes in than this socket can be sent: it goes live, and is told from where it misses something.
      if (tap.overflow && gapCursor === '') gapCursor = cursorFrom(snapshot.position)
      goLive(snapshot, tap.messages, from !== null)
      return undefined
    } finally {
      read?.tap.close()
    }
  }

  /**
   * A database that is away is waited for, since a subscription is answered when it is in force and not before; but not
   * without end, for a socket that joins hears nothing.
   */
  async function readPatiently(from: Position | null): Promise<{ snapshot: Snapshot; tap: Tap } | null> {
    const end = performance.now() + databaseLimit
    for (let wait = 50; !peer.closed; wait = Math.min(wait * 2, 1_000)) {
      const tap = place.tap(sample)
      try {
        return { snapshot: await answered(deps.read(project_id, from), end), tap }
      } catch (error) {
        tap.close()
        deps.log.warn('stream.read_failed', { project_id, error })
        if (performance.now() + wait > end) throw unavailable()
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
    return null
  }

  function answered<T>(work: Promise<T>, end: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(unavailable()), end - performance.now())
    })
    return Promise.race([work, late]).finally(() => clearTimeout(timer))
  }

  const unavailable = () => new AppError('unavailable', 'no answer from the database: come back with the last cursor')

  /** The answer, then what was missed, as fast as the client reads it. */
  async function sendSnapshot(snapshot: Snapshot, from: Position | null, answer: Answer | null): Promise<void> {
    while (!peer.closed && peer.bufferedAmount() > replayBuffer) await drained()
    const cursor = cursorFrom(snapshot.position)
    const resumed = from && snapshot.changes ? cursorFrom(from) : cursor
    if (answer) send(answer({ unresolved: snapshot.unresolved, cursor: resumed }))
    if (snapshot.reason) send({ type: 'resync', project_id, reason: snapshot.reason, cursor })
    const due = (snapshot.changes ?? []).filter((change) => wanted(change.event))
    for (let at = 0; at < due.length && !peer.closed; at += 100) {
      peer.cork(() => {
        for (const change of due.slice(at, at + 100)) peer.send(change.text)
      })
      while (!peer.closed && peer.bufferedAmount() > replayBuffer) await drained()
    }
  }

  const wanted = (event: { level: Filters['level'][number]; environment: string | null } | null) =>
    event === null || matches(filters, event.level, event.environment)

  /** In one turn of the event loop: the tap, the topics. */
  function goLive(snapshot: Snapshot, tapped: ReturnType<Place['tap']>['messages'], resumed: boolean) {
    const sent = new Set(snapshot.changes?.map((change) => change.key))
    peer.cork(() => {
      if (resumed) {
        const cursor = cursorFrom(snapshot.position)
        send({ type: 'issue_count', project_id, count: snapshot.unresolved, cursor })
        send({ type: 'mark', project_id, server_time: new Date().toISOString(), cursor })
      }
      for (const { change, version, text } of tapped) {
        if (version !== null && version <= snapshot.version) continue
        if (change && (sent.has(change.key) || !wanted(change.event))) continue
        peer.send(text)
      }
    })
    state = 'live'
    if (gapCursor !== '') tellGap()
    subscribe()
  }

  function tellGap() {
    deps.onGap?.()
    send({ type: 'gap', project_id, reason: 'slow_consumer', dropped: null, cursor: gapCursor })
    gapCursor = ''
  }

  /** When the socket has taken what waits, or a little later: `drain` is a hint of the library, not a promise. */
  function drained(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, 250)
      function done() {
        clearTimeout(timer)
        onDrain = () => {}
        if (slowSince === 0) slowSince = performance.now()
        const limit = state === 'joining' ? Math.min(slowLimit, joinLimit) : slowLimit
        if (performance.now() - slowSince > limit && peer.bufferedAmount() > replayBuffer) tooSlow()
        if (peer.bufferedAmount() <= replayBuffer) slowSince = 0
        resolve()
      }
      onDrain = done
    })
  }

  function tooSlow() {
    deps.log.info('stream.slow_consumer', { project_id })
    peer.end(closeCodes.slow_consumer, 'this client reads too slowly: come back with the last cursor')
    // A close frame behind a full buffer is never read; whoever does not read is not waited for.
    setImmediate(() => peer.terminate())
  }

  function lag() {
    if (gapCursor !== '') return
    gapCursor = place.gapCursor()
    // While joining, the gap is told when the socket is live.
    if (state === 'joining') return
    state = 'lagging'
    unsubscribe()
    const since = performance.now()
    slowTimer = setInterval(() => {
      if (performance.now() - since > slowLimit) tooSlow()
      else resumeIfDrained()
    }, 500)
  }

  function resumeIfDrained() {
    if (state !== 'lagging' || peer.closed || peer.bufferedAmount() > replayBuffer) return
    clearInterval(slowTimer)
    deps.relay.flush()
    state = 'live'
    tellGap()
    subscribe()
  }

  function refuse(code: string, error: string, ref?: Ref) {
    send({ type: 'error', code, error, ref })
  }

  async function changeFilters({ filters: to, sample: toSample, since, ref }: Change): Promise<void> {
    const position = since === undefined ? null : parseCursor(since)
    const answer: Answer = ({ unresolved, cursor }) => ({
      type: 'filters_updated',
      project_id,
      filters: to,
      unresolved,
      cursor,
      ref,
    })
    if (position) {
      filters = to
      sample = toSample
      return join(position, answer)
    }
    while (state === 'lagging' && !peer.closed) await drained()
    // Everything that was committed under the old filters leaves under the old filters.
    deps.relay.flush()
    unsubscribe()
    filters = to
    sample = toSample
    send(answer(place.present()))
    subscribe()
  }

  enqueue(() => {
    const position = start.since === null ? null : parseCursor(start.since)
    return join(position, ({ unresolved, cursor }) => ({
      type: 'subscribed',
      project_id,
      filters,
      unresolved,
      cursor,
      server_time: new Date().toISOString(),
    }))
  })

  return {
    project_id,
    token_id,
    message(bytes, isBinary) {
      const parsed = isBinary ? null : parseMessage(bytes)
      if (waiting > mostWaitingMessages) {
        return refuse(
          'rate_limited',
          `${mostWaitingMessages} messages wait for their answers: wait for some`,
          parsed?.ref,
        )
      }
      enqueue(() => {
        if (parsed === null) return refuse('bad_request', 'A message is one JSON object in a text frame')
        const { message, ref, problem } = parsed
        if (!message) return refuse('bad_request', problem, ref)
        if (message.type === 'ping') return void send({ type: 'pong', ref: message.ref })
        const to = { level: message.filters.level ?? [], environment: message.filters.environment ?? [] }
        return changeFilters({ ...message, filters: to })
      })
    },
    dropped: lag,
    drain() {
      onDrain()
      resumeIfDrained()
    },
    end: (code, reason) => peer.end(code, reason),
    closed() {
      clearInterval(slowTimer)
      onDrain()
      place.removeTopics(subscribed)
      subscribed = []
      place.leave()
    },
  }
}

type Parsed = { message: ClientMessage; ref?: Ref; problem: '' } | { message: null; ref?: Ref; problem: string }

function parseMessage(bytes: Buffer): Parsed | null {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  const result = ClientMessage.safeParse(value)
  if (result.success) return { message: result.data, ref: result.data.ref, problem: '' }
  const issue = result.error.issues[0]!
  const { ref } = value as { ref?: unknown }
  const where = issue.path.join('.')
  return {
    message: null,
    ref: typeof ref === 'string' || typeof ref === 'number' ? ref : undefined,
    problem: `${where === '' ? 'message' : where}: ${issue.message}`,
  }
}
