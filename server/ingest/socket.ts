// `/ingest`: events over a WebSocket. A text frame is an event or an array of them, a binary frame an envelope. Each event is
// answered once, as soon as it is committed or refused; a bad frame is answered too and never a reason to close. At most
// `maxInFlight` events of a socket wait for their commit; what comes beyond is answered `rate_limited`. A client that does
// not read its answers is closed when they fill its buffer: what it does not know to be stored it sends again, and an
// event_id counts once.
// Closing: 1001 the server goes away (all answers were sent before), 4401 the key was revoked, 4408 answers are not read.

import { AppError } from '../errors.ts'
import type { HttpRequest, Peer, SocketRoute } from '../http/types.ts'
import type { Log } from '../log.ts'
import { closeCodes } from '../protocol.ts'
import { type Accept, type Ignored, type ProjectKey, type Result, rejectedFrom } from './accept.ts'
import { bearerKey, resultText } from './doors.ts'
import type { Sender } from './event.ts'
import { elementsFrom, sentIdFrom, startsArray } from './json.ts'
import type { SenderOf } from './sender.ts'

export const maxInFlight = 1000
export const maxSocketsPerKey = 1000
const maxFrameEvents = 1000

export interface IngestSession {
  key: ProjectKey
  from: Sender
  /** Events that wait for their commit. */
  inFlight: number
  /** Answers of this tick. */
  replies: string[]
  peer: Peer<IngestSession> | null
}

export interface IngestSocket {
  route: SocketRoute<IngestSession>
  /** The key was revoked. */
  closeKey(publicKey: string): void
  /** Keys of open sockets. */
  keys(): string[]
  /** Refuses new sockets and events, and closes each socket once its last answer is sent; resolves when all are closed. */
  drain(): Promise<void>
  /** Open sockets. */
  size(): number
}

export function ingestSocket({
  accept,
  senderOf,
  log,
}: {
  accept: Accept
  senderOf: SenderOf
  log: Log
}): IngestSocket {
  const sessions = new Map<string, Set<IngestSession>>()
  const unsent = new Set<IngestSession>()
  let draining: PromiseWithResolve | null = null

  function size(): number {
    let count = 0
    for (const ofKey of sessions.values()) count += ofKey.size
    return count
  }

  /** One write a socket and tick: a batch that commits answers hundreds of events at once. */
  function reply(session: IngestSession, text: string) {
    if (session.peer === null) return
    session.replies.push(text)
    if (unsent.size === 0) setImmediate(flush)
    unsent.add(session)
  }

  function flush() {
    const due = [...unsent]
    unsent.clear()
    for (const session of due) {
      const replies = session.replies
      session.replies = []
      const peer = session.peer
      if (peer === null || peer.closed) continue
      let sent = true
      peer.cork(() => {
        for (const text of replies) sent = sent && peer.send(text)
      })
      if (!sent) peer.end(closeCodes.slow_consumer, 'answers are not read')
      else closeIfDrained(session)
    }
  }

  function closeIfDrained(session: IngestSession) {
    if (draining === null || session.inFlight > 0 || session.replies.length > 0) return
    session.peer?.end(closeCodes.shutting_down, 'shutting down')
  }

  function refusal(session: IngestSession): AppError | null {
    if (draining !== null) {
      return new AppError('shutting_down', 'The server is shutting down: connect again.', { retryAfter: 1 })
    }
    if (session.inFlight < maxInFlight) return null
    return new AppError('rate_limited', `${maxInFlight} events of this socket wait for their answers: wait for some.`, {
      retryAfter: 1,
    })
  }

  /** Takes the event's place in flight, or answers why not. */
  function admitted(session: IngestSession, bytes: Buffer | null): boolean {
    const refused = refusal(session)
    if (refused === null) session.inFlight++
    else reply(session, resultText(rejectedFrom(refused, bytes === null ? null : sentIdFrom(bytes))))
    return refused === null
  }

  function settle(session: IngestSession, result: Result | Ignored) {
    session.inFlight--
    reply(session, result.status === 'ignored' ? JSON.stringify(result) : resultText(result))
  }

  function takeText(session: IngestSession, bytes: Buffer) {
    if (startsArray(bytes)) return takeArray(session, bytes)
    if (admitted(session, bytes))
      accept.result(session.key, bytes, session.from).then((result) => settle(session, result))
  }

  function takeArray(session: IngestSession, bytes: Buffer) {
    const events = elementsFrom(bytes, maxFrameEvents)
    if (events.length === 0) throw new AppError('unprocessable', 'The array is empty: send at least one event.')
    const taken = events.filter((event) => admitted(session, event))
    accept.results(session.key, taken, (result) => settle(session, result), session.from)
  }

  function takeEnvelope(session: IngestSession, bytes: Buffer) {
    if (admitted(session, null))
      accept.envelopeResult(session.key, bytes, session.from).then((result) => settle(session, result))
  }

  async function upgrade(request: HttpRequest): Promise<{ data: IngestSession }> {
    if (draining !== null) throw new AppError('shutting_down', 'The server is shutting down.', { retryAfter: 1 })
    const from = senderOf(request)
    const key = await bearerKey(accept, request)
    if ((sessions.get(key.public_key)?.size ?? 0) >= maxSocketsPerKey) {
      throw new AppError('rate_limited', `At most ${maxSocketsPerKey} sockets may be open with one key.`, {
        retryAfter: 5,
      })
    }
    return { data: { key, from, inFlight: 0, replies: [], peer: null } }
  }

  /** The key may have been revoked between the look-up and here, when closeKey could not see this socket yet. */
  async function recheck(session: IngestSession) {
    try {
      await accept.authenticate(session.key.public_key)
    } catch (error) {
      if (error instanceof AppError && error.code === 'forbidden') revoked(session)
    }
  }

  function revoked(session: IngestSession) {
    session.peer?.end(closeCodes.unauthenticated, 'the key was revoked')
  }

  const route: SocketRoute<IngestSession> = {
    path: '/ingest',
    maxPayload: 6 * 1024 * 1024,
    maxBackpressure: 1024 * 1024,
    idleTimeout: 60,
    upgrade,
    open(peer) {
      const session = peer.data
      session.peer = peer
      const ofKey = sessions.get(session.key.public_key)
      if (ofKey) ofKey.add(session)
      else sessions.set(session.key.public_key, new Set([session]))
      closeIfDrained(session)
      recheck(session)
    },
    message(peer, bytes, isBinary) {
      const session = peer.data
      try {
        if (isBinary) takeEnvelope(session, bytes)
        else takeText(session, bytes)
      } catch (error) {
        if (!(error instanceof AppError)) log.error('ingest.failed', { error })
        reply(session, resultText(rejectedFrom(error, null)))
      }
    },
    close(peer) {
      const session = peer.data
      session.peer = null
      session.replies = []
      const ofKey = sessions.get(session.key.public_key)
      ofKey?.delete(session)
      if (ofKey?.size === 0) sessions.delete(session.key.public_key)
      if (sessions.size === 0) draining?.resolve()
    },
  }

  return {
    route,
    size,
    keys: () => [...sessions.keys()],
    closeKey(publicKey) {
      for (const session of sessions.get(publicKey) ?? []) revoked(session)
    },
    drain() {
      draining ??= promiseWithResolve()
      for (const ofKey of [...sessions.values()]) for (const session of ofKey) closeIfDrained(session)
      if (sessions.size === 0) draining.resolve()
      return draining.promise
    },
  }
}

interface PromiseWithResolve {
  promise: Promise<void>
  resolve(): void
}

function promiseWithResolve(): PromiseWithResolve {
  let resolve = () => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
