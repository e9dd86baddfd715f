// The one entry behind all doors: which project a key belongs to, and one event's way from bytes to a commit. Whatever a door
// answers as accepted was committed by the writer first.

import { setImmediate } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { Log } from '../log.ts'
import { dsnFrom, twoKeys } from './credentials.ts'
import { type Envelope, type EnvelopeItem, parseEnvelope } from './envelope.ts'
import { type Event, type EventContext, parseEvent, type Sender } from './event.ts'
import { type Dropped, droppedFrom, keepUseful, sortItems } from './items.ts'
import { eventTooLarge, sentIdFrom } from './json.ts'
import { type Discarded, type Feedback, scrubbedFeedback } from './reports.ts'
import { createScrubbers, type ScrubSettings } from './scrub.ts'
import type { SecurityReports } from './security.ts'
import { crowded, type Turns } from './turns.ts'

export interface ProjectKey {
  project_id: string
  public_key: string
  /** Of the project. */
  scrubbing: ScrubSettings
}

export interface Keys {
  /** Cached; null when unknown or revoked. */
  find(publicKey: string): ProjectKey | null | Promise<ProjectKey | null>
}

export type Outcome =
  | { status: 'accepted'; issue_id: string }
  | { status: 'dropped'; reason: string; issue_id: string | null }

export interface Writer {
  /** Resolves when committed; rejects with AppError (rate_limited, unavailable, unprocessable, shutting_down). */
  add(projectId: string, event: Event): Promise<Outcome>
  /** Why an event of this project would be refused just now; null when there is room. */
  refusal(projectId: string): AppError | null
}

export interface Reports {
  received_at: number
  discarded: Discarded[]
  feedback: Feedback[]
}

export interface ReportSink {
  /** Resolves when committed; rejects with AppError. */
  add(projectId: string, reports: Reports): Promise<void>
}

export type Stored = { id: string } & Outcome

/** What became of one event of several: the very object that is answered. */
export type Result = Stored | Rejected
export interface Rejected {
  status: 'rejected'
  error: string
  code: string
  /** As sent, so that the client knows which; null when there was none or it could not be read. */
  id: string | null
  retry_after?: number
}

export interface Accept {
  /** Throws unauthenticated without a key, forbidden for one that is wrong, or of another project than the path's. */
  authenticate(publicKey: string | null, project?: string): ProjectKey | Promise<ProjectKey>
  /** Throws when there is no room for events of this project, before anything is spent on them. */
  admit(key: ProjectKey): void
  /** One event at Mesher's own doors. */
  event(key: ProjectKey, bytes: Buffer, from?: Sender): Promise<Stored>
  /** The same, as a value: never rejects. */
  result(key: ProjectKey, bytes: Buffer, from?: Sender): Promise<Result>
  /** Several, each by itself; `take` hears of each as soon as it is known, in any order. Never rejects. */
  results(
    key: ProjectKey,
    events: Buffer[],
    take: (result: Result, index: number) => void,
    from?: Sender,
  ): Promise<void>
  /** The body of `/store/`. */
  stored(key: ProjectKey, bytes: Buffer, from?: Sender): Promise<Stored>
  /** The events that security reports make. Rejects when none of them could be stored. */
  security(key: ProjectKey, reports: SecurityReports, from?: Sender): Promise<void>
  /** What a person wrote about an event. */
  feedback(key: ProjectKey, said: Feedback): Promise<void>
  /** The envelope's first event; null when it holds none. */
  envelope(key: ProjectKey, envelope: Envelope, from?: Sender): Promise<Stored | null>
  /** A frame of `/ingest` that is an envelope: never rejects. */
  envelopeResult(key: ProjectKey, bytes: Buffer, from?: Sender): Promise<Result | Ignored>
}

/** An envelope without an event: nothing to store, and nothing wrong. */
export interface Ignored {
  status: 'ignored'
  id: string | null
  items: string[]
}

export interface AcceptDeps {
  keys: Keys
  writer: Writer
  reports: ReportSink
  turns: Turns
  log: Log
  now(): number
  /** Of an envelope item that is not stored. */
  countDropped(dropped: Dropped): void
  /** What became of an event: accepted, dropped, or the code of the error. */
  countEvent(result: string): void
}

export function createAccept({ keys, writer, turns, reports, log, now, countDropped, countEvent }: AcceptDeps): Accept {
  function authenticate(publicKey: string | null, project?: string): ProjectKey | Promise<ProjectKey> {
    if (publicKey === null) throw missingKey()
    const found = /^\w{1,100}$/.test(publicKey) ? keys.find(publicKey) : null
    return found instanceof Promise ? found.then((key) => checked(key, project)) : checked(found, project)
  }

  const scrubberOf = createScrubbers()

  /** The key with the settings of now, which a socket that is open for long does not know. */
  function latest(key: ProjectKey): ProjectKey | Promise<ProjectKey> {
    const found = keys.find(key.public_key)
    if (!(found instanceof Promise)) return found ?? key
    return found.then(
      (one) => one ?? key,
      () => key,
    )
  }

  async function store(key: ProjectKey, bytes: Buffer, context: EventContext): Promise<Stored> {
    try {
      const now = latest(key)
      const { scrubbing } = now instanceof Promise ? await now : now
      const scrubber = scrubberOf(scrubbing)
      const parsed = turns.run(key.project_id, bytes.length, () => parseEvent(bytes, { ...context, scrubber }))
      const event = parsed instanceof Promise ? await parsed : parsed
      event.payload = ownBytes(event.payload)
      const outcome = await writer.add(key.project_id, event)
      countEvent(outcome.status)
      return { ...outcome, id: event.id }
    } catch (error) {
      countEvent(error instanceof AppError ? error.code : 'internal')
      throw error
    }
  }

  function admit({ project_id }: ProjectKey): void {
    const refused = writer.refusal(project_id) ?? (turns.isFull(project_id) ? crowded() : null)
    if (refused === null) return
    countEvent(refused.code)
    throw refused
  }

  function event(key: ProjectKey, bytes: Buffer, from?: Sender): Promise<Stored> {
    return store(key, bytes, { ...from, received_at: now(), must_say_something: true })
  }

  function result(key: ProjectKey, bytes: Buffer, from?: Sender): Promise<Result> {
    return event(key, bytes, from).catch((error) => rejected(error, sentIdFrom(bytes)))
  }

  async function report(key: ProjectKey, { feedback, ...rest }: Reports): Promise<void> {
    const scrubber = scrubberOf((await latest(key)).scrubbing)
    const scrubbed = feedback.map((said) => scrubbedFeedback(said, (text) => scrubber.text(text)))
    await reports.add(key.project_id, { ...rest, feedback: scrubbed })
  }

  async function envelope(key: ProjectKey, { header, items }: Envelope, from?: Sender): Promise<Stored | null> {
    // One that cannot be read is nothing that this request relies on.
    const named = dsnFrom(header.dsn)
    if (named !== null && named.public_key !== key.public_key) throw twoKeys()
    if (named !== null) checked(key, named.project)
    const received_at = now()
    const { event: first, reports: found, dropped } = sortItems(items, { received_at, event_id: header.event_id })
    for (const item of dropped) countDropped(droppedFrom(item))
    const reported = found === null ? null : report(key, { received_at, ...found })
    if (first === null) {
      await reported
      return null
    }
    // What is said beside an event is no reason to refuse it: who sends it again sends both again.
    const settled = reported?.catch(() => {})
    try {
      if (first.payload.length < first.size) throw eventTooLarge()
      admit(key)
      const { event_id, sent_at, sdk_name } = header
      return await store(key, first.payload, { ...from, received_at, event_id, sent_at, sdk_name })
    } finally {
      await settled
    }
  }

  function rejected(error: unknown, id: string | null): Rejected {
    if (!(error instanceof AppError)) log.error('ingest.failed', { error })
    return rejectedFrom(error, id)
  }

  async function security(key: ProjectKey, { events, others }: SecurityReports, from?: Sender): Promise<void> {
    if (others > 0) countDropped({ type: 'security', category: 'security', quantity: others })
    const received_at = now()
    const stored = await Promise.allSettled(
      events.map((event) => store(key, Buffer.from(JSON.stringify(event)), { ...from, received_at })),
    )
    const failures = stored.filter((one) => one.status === 'rejected')
    if (failures.length > 0 && failures.length === stored.length) throw failures[0]!.reason
  }

  return {
    authenticate,
    admit,
    event,
    security,
    feedback: (key, said) => report(key, { received_at: said.received_at, discarded: [], feedback: [said] }),
    envelope,
    stored: (key, bytes, from) => store(key, bytes, { ...from, received_at: now() }),
    result,
    async results(key, events, take, from) {
      const taken: Promise<void>[] = []
      for (const [index, bytes] of events.entries()) {
        // 1,000 events take 30 ms to parse: the loop lets others in between, so that no dashboard waits for a bulk.
        if (index % 50 === 49) await setImmediate()
        taken.push(result(key, bytes, from).then((one) => take(one, index)))
      }
      await Promise.all(taken)
    },
    async envelopeResult(key, bytes, from) {
      let id: string | null = null
      try {
        const parsed = parseEnvelope(bytes, keepUseful())
        id = parsed.header.event_id ?? sentIdFrom(eventOf(parsed.items)?.payload ?? Buffer.alloc(0))
        return (
          (await envelope(key, parsed, from)) ?? { status: 'ignored', id, items: parsed.items.map((item) => item.type) }
        )
      } catch (error) {
        return rejected(error, id)
      }
    },
  }
}

/** The answer of a socket or of one bulk element; what is no AppError stays without detail. */
export function rejectedFrom(error: unknown, id: string | null): Rejected {
  if (!(error instanceof AppError)) {
    return { status: 'rejected', error: 'The server failed; the event was not stored.', code: 'internal', id }
  }
  const { message, code, retryAfter } = error
  const base: Rejected = { status: 'rejected', error: message, code, id }
  return retryAfter === undefined ? base : { ...base, retry_after: retryAfter }
}

/** One text for a wrong key, a revoked key, an unknown and a foreign project: none tells which of these exist. */
function checked(key: ProjectKey | null, project: string | undefined): ProjectKey {
  if (key === null || (project !== undefined && key.project_id !== project)) {
    throw new AppError('forbidden', 'No project takes events with this key: check the DSN.')
  }
  return key
}

function eventOf(items: EnvelopeItem[]): EnvelopeItem | undefined {
  return items.find((item) => item.type === 'event')
}

/** A small event in a large body (attachments) must not keep that body alive while it waits for its commit. */
function ownBytes(payload: Buffer): Buffer {
  const held = payload.buffer.byteLength
  return held > 64 * 1024 && payload.length * 2 < held ? Buffer.from(payload) : payload
}

function missingKey(): AppError {
  return new AppError(
    'unauthenticated',
    'No key was sent: send the public key of the DSN as ?sentry_key=, in X-Sentry-Auth, in Authorization, or as "dsn" of an envelope.',
  )
}
