// The one LISTEN connection of this process, and the only user of pg-listen. NOTIFY is at most once: what is sent while
// the connection is down is gone, so every new connection is told to the relay, which replays from the tables.
//
// pg-listen 1.7.0 reconnects by itself, but gives up after 3 s, and a LISTEN that fails on the way leaves it connected and
// deaf. So here one subscriber lives as long as one connection (retryLimit 1 turns its own attempts off), and a heartbeat
// through the database proves that the whole way works: unheard, the connection is built anew.

import { randomUUID } from 'node:crypto'
import pgListen, { type Subscriber } from 'pg-listen'
import { connectionConfig } from '../db/pool.ts'
import type { Log } from '../log.ts'
import type { Service } from '../service.ts'
import { channel, type Notification, parseNotification } from './channels.ts'

export interface ListenerState {
  connected: boolean
  /** Milliseconds since the last heartbeat was heard. */
  silent_ms: number
  /** Milliseconds that the last heartbeat took through the database. */
  lag_ms: number
  /** Why there is no connection yet. */
  problem: string | null
}

export interface Listener extends Service {
  state(): ListenerState
}

export interface ListenerOptions {
  databaseUrl: string
  /** Sends a heartbeat through another connection. */
  beat(payload: { from: string; beat: number }): Promise<void>
  onNotification(notification: Notification): void
  /** LISTEN is in force on a new connection; whatever was committed before may have been missed. */
  onConnected(): void
  onLost(): void
  log: Log
  /** Milliseconds between heartbeats. */
  heartbeat?: number
}

/**
 * A heartbeat that was committed so many turns ago and is not heard yet means that the connection is deaf. One that a busy
 * database has not committed means nothing, and turns instead of time forgive a process that was stopped for a while.
 */
const deafAfter = 3
/** Milliseconds for a connection to be made. pg and pg-listen have time-outs, but neither promises an end in all cases. */
const connectWithin = 25_000

export function createListener(options: ListenerOptions): Listener {
  const { log } = options
  const heartbeat = options.heartbeat ?? 2_000
  const me = randomUUID()
  let subscriber: Subscriber | null = null
  let connected = false
  let stopped = false
  let heardAt = performance.now()
  let lag = 0
  let beat = 0
  const sentAt = new Map<number, number>()
  /** Turns since these were committed. */
  const unheard = new Map<number, number>()
  let timer: NodeJS.Timeout | undefined
  let rebuilding: Promise<void> | undefined
  let wake = () => {}
  let problem: string | null = null

  async function connect(): Promise<void> {
    const fresh = pgListen.default(
      { ...connectionConfig(options.databaseUrl, 'mesher listener'), query_timeout: 10_000 },
      { retryLimit: 1, paranoidChecking: false, parse: (text: string) => text },
    )
    subscriber = fresh
    fresh.events.on('error', (error) => lost(fresh, error.message))
    fresh.notifications.on(channel, receive)
    await within(connectWithin, listen(fresh))
    if (stopped) return close(fresh)
    // Lost between the answer and here: without this nobody would build it anew.
    if (subscriber !== fresh) throw new Error('the connection was lost while it was made')
    connected = true
    problem = null
    heardAt = performance.now()
    unheard.clear()
    log.info('listener.connected')
    options.onConnected()
  }

  async function listen(fresh: Subscriber) {
    await fresh.connect()
    await fresh.listenTo(channel)
  }

  function receive(payload: string) {
    const notification = parseNotification(payload)
    if (!notification) return log.warn('listener.foreign_payload', { bytes: payload?.length ?? 0 })
    if (notification.action === 'heartbeat' && notification.from === me) heard(notification.beat)
    options.onNotification(notification)
  }

  function heard(number: number) {
    heardAt = performance.now()
    const sent = sentAt.get(number)
    if (sent !== undefined) lag = heardAt - sent
    for (const older of sentAt.keys()) if (older <= number) sentAt.delete(older)
    for (const older of unheard.keys()) if (older <= number) unheard.delete(older)
  }

  function lost(which: Subscriber, reason: string) {
    if (which !== subscriber || stopped) return
    subscriber = null
    close(which)
    if (connected) {
      connected = false
      log.warn('listener.lost', { reason })
      options.onLost()
    }
    rebuilding ??= rebuild().finally(() => {
      rebuilding = undefined
    })
  }

  async function rebuild(): Promise<void> {
    for (let wait = 50; !stopped && !connected; wait = Math.min(wait * 2, 1_000)) {
      try {
        await connect()
      } catch (error) {
        log.debug('listener.connect_failed', { error })
        problem = error instanceof Error ? error.message : String(error)
        const failed = subscriber
        subscriber = null
        if (failed) close(failed)
        await new Promise<void>((resolve) => {
          wake = resolve
          setTimeout(resolve, wait * (0.5 + Math.random()))
        })
      }
    }
  }

  function close(which: Subscriber) {
    // Ends in its own time: a connection to a host that is gone may take the time-out of the system.
    which.close().catch(() => {})
  }

  function tick() {
    for (const [number, turns] of unheard) unheard.set(number, turns + 1)
    if (connected && subscriber && [...unheard.values()].some((turns) => turns >= deafAfter)) {
      return lost(subscriber, `no heartbeat for ${Math.round(performance.now() - heardAt)} ms`)
    }
    if (sentAt.size > 10) sentAt.clear()
    beat += 1
    sentAt.set(beat, performance.now())
    send(beat)
  }

  async function send(mine: number) {
    try {
      await options.beat({ from: me, beat: mine })
      // Heard before its commit was answered, as like as not.
      if (sentAt.has(mine)) unheard.set(mine, 0)
    } catch (error) {
      log.debug('listener.beat_failed', { error })
    }
  }

  return {
    name: 'listener',
    async start() {
      await connect()
      tick()
      timer = setInterval(tick, heartbeat)
    },
    async stop() {
      stopped = true
      clearInterval(timer)
      wake()
      connected = false
      await rebuilding
      const last = subscriber
      subscriber = null
      await last?.close().catch(() => {})
    },
    state: () => ({
      connected,
      silent_ms: Math.round(performance.now() - heardAt),
      lag_ms: Math.round(lag * 10) / 10,
      problem,
    }),
  }
}

function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${milliseconds} ms`)), milliseconds)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}
