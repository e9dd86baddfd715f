// One dashboard's connection: `/stream/projects/:project`. States:
//   joining  no topic is subscribed; a tap collects what the project's subscribers are sent meanwhile, the tables are read,
//            and then, in one turn of the event loop: what was missed, what the tap holds, and the topics. Nothing can
//            fall between, and what came twice is left out.
//   live     native topics do the work; nothing of this file runs for a message
//   lagging  the socket's buffer was full and something was dropped: no topics until it takes messages again, then `gap`
//            and topics; one that stays slow is closed
// Messages of the client are handled one after the other; a second `subscribe` waits for the first to be in force.
//
// A class, and what is idle holds nothing: ten thousand of these wait most of the time (bench, memory.socket).

import { AppError } from '../errors.ts'
import type { Peer } from '../http/types.ts'
import type { Log } from '../log.ts'
import { closeCodes, type Filters, maxBufferedBytes, type Ref, type ServerMessage } from '../protocol.ts'
import { cursorFrom, type Position, parseCursor } from '../relay/cursor.ts'
import type { Change } from '../relay/messages.ts'
import type { Place, Tap } from '../relay/place.ts'
import type { Line, Reading, SharedSnapshot } from '../relay/readings.ts'
import { matches, projectTopic, rateTopic, topicsOfFilters } from '../relay/topics.ts'
import { parseMessage } from './message.ts'

export interface StreamDeps {
  relay: { enter(projectId: string): Place; flush(): void; ready(): Promise<void> }
  /** For a replay: those who ask the same are given one reading. */
  line: Line
  log: Log
  onGap?(): void
  /** Milliseconds that a socket may stay slow. */
  slowLimit?: number | undefined
  /** Milliseconds that a subscription waits for a database that is away. */
  databaseLimit?: number | undefined
}

export interface StreamStart {
  credential: string
  project_id: string
  filters: Filters
  sample: boolean
  since: string | null
}

/** What a `subscribe` message asks for. */
interface Subscription {
  filters: Filters
  sample: boolean
  since?: string | undefined
  ref?: Ref | undefined
}

type Answer = (present: { unresolved: number; cursor: string }) => ServerMessage

/** While a replay is sent, no more than this waits in the socket. */
const replayBuffer = maxBufferedBytes / 4
const mostWaitingMessages = 32
/** Milliseconds that a socket may leave its replay unread: others wait in line behind it. */
const joinLimit = 5_000
/** How often a socket that joins in a storm reads the tables again. */
const mostRounds = 3
const nothing = () => {}
const noTopics: readonly string[] = []

export class StreamSession {
  readonly credential: string
  readonly #peer: Peer<unknown>
  readonly #deps: StreamDeps
  readonly #place: Place
  #project_id: string
  #filters: Filters
  #sample: boolean
  #state: 'joining' | 'live' | 'lagging' = 'joining'
  #subscribed = noTopics
  #gapCursor = ''
  #slowSince = 0
  #slowTimer: NodeJS.Timeout | undefined = undefined
  #onDrain = nothing
  #waiting = 0
  /** Null when there is none. */
  #work: Promise<void> | null = null

  constructor(peer: Peer<unknown>, { credential, project_id, filters, sample, since }: StreamStart, deps: StreamDeps) {
    this.credential = credential
    this.#peer = peer
    this.#deps = deps
    this.#place = deps.relay.enter(project_id)
    this.#project_id = this.#place.project_id
    this.#filters = filters
    this.#sample = sample
    this.#enqueue(() =>
      this.#join(since === null ? null : parseCursor(since), ({ unresolved, cursor }) => ({
        type: 'subscribed',
        project_id,
        filters,
        unresolved,
        cursor,
        server_time: new Date().toISOString(),
      })),
    )
  }

  get project_id(): string {
    return this.#project_id
  }

  message(bytes: Buffer, isBinary: boolean) {
    const parsed = isBinary ? null : parseMessage(bytes)
    if (this.#waiting > mostWaitingMessages) {
      const error = `${mostWaitingMessages} messages wait for their answers: wait for some`
      return this.#refuse('rate_limited', error, parsed?.ref)
    }
    this.#enqueue(() => {
      if (parsed === null) return this.#refuse('bad_request', 'A message is one JSON object in a text frame')
      const { message, ref, problem } = parsed
      if (!message) return this.#refuse('bad_request', problem, ref)
      if (message.type === 'ping') return void this.#send({ type: 'pong', ref: message.ref })
      const to = { level: message.filters.level ?? [], environment: message.filters.environment ?? [] }
      return this.#change({ ...message, filters: to })
    })
  }

  dropped() {
    if (this.#gapCursor !== '') return
    this.#gapCursor = this.#place.gapCursor()
    // While joining, the gap is told when the socket is live.
    if (this.#state === 'joining') return
    this.#state = 'lagging'
    this.#unsubscribe()
    const since = performance.now()
    this.#slowTimer = setInterval(() => {
      if (performance.now() - since > this.#slowLimit) this.#tooSlow()
      else this.#resumeIfDrained()
    }, 500)
  }

  drain() {
    this.#onDrain()
    this.#resumeIfDrained()
  }

  end(code: number, reason: string) {
    this.#peer.end(code, reason)
  }

  closed() {
    clearInterval(this.#slowTimer)
    this.#onDrain()
    this.#place.removeTopics(this.#subscribed)
    this.#subscribed = noTopics
    this.#place.leave()
  }

  get #slowLimit(): number {
    return this.#deps.slowLimit ?? 30_000
  }

  /** Shorter than a client waits for a mark. */
  get #databaseLimit(): number {
    return this.#deps.databaseLimit ?? 10_000
  }

  /** False when the socket did not take it. */
  #send(message: ServerMessage): boolean {
    return this.#peer.send(JSON.stringify(message))
  }

  #refuse(code: string, error: string, ref?: Ref) {
    this.#send({ type: 'error', code, error, ref })
  }

  #subscribe() {
    const events = topicsOfFilters(this.#project_id, this.#sample ? 'e' : 'all', this.#filters)
    const topics = [projectTopic(this.#project_id), ...events, ...(this.#sample ? [rateTopic(this.#project_id)] : [])]
    this.#subscribed = this.#place.addTopics(topics)
    for (const topic of topics) this.#peer.subscribe(topic)
  }

  #unsubscribe() {
    for (const topic of this.#subscribed) this.#peer.unsubscribe(topic)
    this.#place.removeTopics(this.#subscribed)
    this.#subscribed = noTopics
  }

  /** One job at a time, in the order they came; what fails closes the socket, and the client comes back with its cursor. */
  #enqueue(job: () => Promise<void> | void) {
    this.#waiting += 1
    this.#work = (this.#work ?? Promise.resolve()).then(() => this.#do(job))
  }

  async #do(job: () => Promise<void> | void): Promise<void> {
    try {
      if (!this.#peer.closed) await job()
    } catch (error) {
      if (error instanceof AppError) this.#peer.end(closeCodes.unavailable, error.message)
      else {
        this.#deps.log.error('stream.failed', { project_id: this.#project_id, error })
        this.#peer.end(1011, 'internal error: come back with the last cursor')
      }
    }
    this.#waiting -= 1
    if (this.#waiting === 0) this.#work = null
  }

  async #join(since: Position | null, answer: Answer): Promise<void> {
    this.#unsubscribe()
    clearInterval(this.#slowTimer)
    this.#state = 'joining'
    let answerNow: Answer | null = answer
    // A tap that overflowed while a large replay was sent: once more, from there.
    for (
      let from: Position | null | undefined = since, round = 1;
      from !== undefined && !this.#peer.closed;
      round += 1
    ) {
      await this.#answered(this.#deps.relay.ready(), performance.now() + this.#databaseLimit)
      const reading = await this.#deps.line(this.#project_id, from)
      try {
        from = await this.#joinOnce(reading, from, answerNow, round)
      } finally {
        reading.leave()
      }
      answerNow = null
    }
  }

  /** Where to read again from; undefined when the socket is live, or gone. */
  async #joinOnce(
    reading: Reading,
    from: Position | null,
    answer: Answer | null,
    round: number,
  ): Promise<Position | undefined> {
    const read = await this.#open(reading)
    if (!read) return undefined
    const { snapshot, tap } = read
    try {
      this.#place.learn(snapshot)
      await this.#sendSnapshot(snapshot, from, answer)
      if (this.#peer.closed) return undefined
      this.#deps.relay.flush()
      if (tap.overflow && round < mostRounds) return snapshot.position
      // More comes in than this socket can be sent: it goes live, and is told from where it misses something.
      if (tap.overflow && this.#gapCursor === '') this.#gapCursor = cursorFrom(snapshot.position)
      this.#goLive(snapshot, tap, from !== null)
      return undefined
    } finally {
      this.#place.untap(tap)
    }
  }

  /** The tap, and only then the snapshot. Null when the socket was closed meanwhile. */
  async #open(reading: Reading): Promise<{ snapshot: SharedSnapshot; tap: Tap } | null> {
    let tap: Tap | null = null
    const snapshot = await this.#patiently(() => {
      if (tap) this.#place.untap(tap)
      tap = this.#place.tap(this.#sample)
      return reading.snapshot()
    }).catch((error) => {
      if (tap) this.#place.untap(tap)
      throw error
    })
    if (snapshot && tap) return { snapshot, tap }
    if (tap) this.#place.untap(tap)
    return null
  }

  /**
   * A database that is away is waited for, since a subscription is answered when it is in force and not before; but not
   * without end, for a socket that joins hears nothing. Null when the socket was closed meanwhile.
   */
  async #patiently<T>(read: () => Promise<T>): Promise<T | null> {
    const end = performance.now() + this.#databaseLimit
    for (let wait = 50; !this.#peer.closed; wait = Math.min(wait * 2, 1_000)) {
      try {
        return await this.#answered(read(), end)
      } catch (error) {
        this.#deps.log.warn('stream.read_failed', { project_id: this.#project_id, error })
        if (performance.now() + wait > end) throw unavailable()
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
    return null
  }

  #answered<T>(work: Promise<T>, end: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(unavailable()), end - performance.now())
    })
    return Promise.race([work, late]).finally(() => clearTimeout(timer))
  }

  /** The answer, then what was missed, as fast as the client reads it. */
  async #sendSnapshot(snapshot: SharedSnapshot, from: Position | null, answer: Answer | null): Promise<void> {
    while (this.#isFull()) await this.#drained()
    const cursor = cursorFrom(snapshot.position)
    const resumed = from && !snapshot.reason ? cursorFrom(from) : cursor
    if (answer) this.#send(answer({ unresolved: snapshot.unresolved, cursor: resumed }))
    if (snapshot.reason) this.#send({ type: 'resync', project_id: this.#project_id, reason: snapshot.reason, cursor })
    for (let number = 0; !this.#peer.closed; number++) {
      const changes = await this.#patiently(() => snapshot.page(number))
      if (!changes) return
      await this.#sendPage(changes)
    }
  }

  async #sendPage(changes: Change[]): Promise<void> {
    const due = changes.filter((change) => this.#wants(change))
    for (let at = 0; at < due.length && !this.#peer.closed; at += 100) {
      this.#peer.cork(() => {
        for (const change of due.slice(at, at + 100)) this.#peer.send(change.text)
      })
      while (this.#isFull()) await this.#drained()
    }
  }

  #isFull(): boolean {
    return !this.#peer.closed && this.#peer.bufferedAmount() > replayBuffer
  }

  #wants({ event }: Change): boolean {
    return event === null || matches(this.#filters, event.level, event.environment)
  }

  /** In one turn of the event loop: the tap, the topics. */
  #goLive(snapshot: SharedSnapshot, tap: Tap, resumed: boolean) {
    const project_id = this.#project_id
    this.#peer.cork(() => {
      if (resumed) {
        const cursor = cursorFrom(snapshot.position)
        this.#send({ type: 'issue_count', project_id, count: snapshot.unresolved, cursor })
        this.#send({ type: 'mark', project_id, server_time: new Date().toISOString(), cursor })
      }
      for (const { change, version, text } of tap.messages) {
        if (version !== null && version <= snapshot.version) continue
        if (change && (snapshot.keys.has(change.key) || !this.#wants(change))) continue
        this.#peer.send(text)
      }
    })
    this.#state = 'live'
    if (this.#gapCursor !== '') this.#tellGap()
    this.#subscribe()
  }

  #tellGap() {
    this.#deps.onGap?.()
    const gap = { type: 'gap', reason: 'slow_consumer', dropped: null } as const
    this.#send({ ...gap, project_id: this.#project_id, cursor: this.#gapCursor })
    this.#gapCursor = ''
  }

  /** When the socket has taken what waits, or a little later: `drain` is a hint of the library, not a promise. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#onDrain = nothing
        if (this.#slowSince === 0) this.#slowSince = performance.now()
        const limit = this.#state === 'joining' ? Math.min(this.#slowLimit, joinLimit) : this.#slowLimit
        if (performance.now() - this.#slowSince > limit && this.#isFull()) this.#tooSlow()
        if (!this.#isFull()) this.#slowSince = 0
        resolve()
      }
      const timer = setTimeout(done, 250)
      this.#onDrain = done
    })
  }

  #tooSlow() {
    this.#deps.log.info('stream.slow_consumer', { project_id: this.#project_id })
    this.#peer.end(closeCodes.slow_consumer, 'this client reads too slowly: come back with the last cursor')
    // A close frame behind a full buffer is never read; whoever does not read is not waited for.
    setImmediate(() => this.#peer.terminate())
  }

  #resumeIfDrained() {
    if (this.#state !== 'lagging' || this.#peer.closed || this.#isFull()) return
    clearInterval(this.#slowTimer)
    this.#deps.relay.flush()
    this.#state = 'live'
    this.#tellGap()
    this.#subscribe()
  }

  async #change({ filters, sample, since, ref }: Subscription): Promise<void> {
    const answer: Answer = ({ unresolved, cursor }) => ({
      type: 'filters_updated',
      project_id: this.#project_id,
      filters,
      unresolved,
      cursor,
      ref,
    })
    if (since !== undefined) {
      this.#filters = filters
      this.#sample = sample
      return this.#join(parseCursor(since), answer)
    }
    while (this.#state === 'lagging' && !this.#peer.closed) await this.#drained()
    // Everything that was committed under the old filters leaves under the old filters.
    this.#deps.relay.flush()
    this.#unsubscribe()
    this.#filters = filters
    this.#sample = sample
    this.#send(answer(this.#place.present()))
    this.#subscribe()
  }
}

const unavailable = () => new AppError('unavailable', 'no answer from the database: come back with the last cursor')
