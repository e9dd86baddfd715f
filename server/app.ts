// The composition root: every part is built here and handed what it needs. Events flow from the doors to the writer to
// PostgreSQL; what was committed comes back through the listener to the relay and the sockets. There is no other way
// from one half to the other.

import { createKeys } from './access/keys.ts'
import { findRevoked } from './access/revoked.ts'
import { createTokens } from './access/tokens.ts'
import { createContention } from './contention.ts'
import { createArchiveTimer } from './db/archive-timer.ts'
import { sendBeat } from './db/beat.ts'
import { createTagFolder } from './db/fold.ts'
import { createMaintenance } from './db/maintain.ts'
import { createDb, createPool } from './db/pool.ts'
import { findBlocker, findKnownHashes, probeDatabase } from './db/probe.ts'
import { createConnectionWatch } from './db/watch.ts'
import { bindApi } from './http/api.ts'
import { pageRoutes } from './http/pages.ts'
import { apiRoutes } from './http/routes.ts'
import { serviceRoutes } from './http/service.ts'
import { createHttpServer } from './http/uws.ts'
import { createAccept } from './ingest/accept.ts'
import { ingestRoutes } from './ingest/doors.ts'
import { createSenderOf } from './ingest/sender.ts'
import { ingestSocket } from './ingest/socket.ts'
import { createTurns } from './ingest/turns.ts'
import { createLimit } from './limit.ts'
import type { Log } from './log.ts'
import { createMetrics } from './metrics.ts'
import type { Notification } from './notify/channels.ts'
import { createListener } from './notify/listener.ts'
import { createClientReports } from './read/client-reports.ts'
import { createFeedback } from './read/feedback.ts'
import { createGroupings } from './read/grouping.ts'
import { createIssues } from './read/issues.ts'
import { createLine } from './relay/readings.ts'
import { createRelay } from './relay/relay.ts'
import { createReplay } from './relay/replay.ts'
import { type Service, services } from './service.ts'
import { streamSocket } from './socket/door.ts'
import { actOnIssue } from './triage/issues.ts'
import { createMerges } from './triage/merge.ts'
import { createReportWriter } from './write/reports.ts'
import { createWriter, type WriterOptions } from './write/writer.ts'

export interface AppConfig {
  host: string
  port: number
  databaseUrl: string
  writers: number
  /** Milliseconds that events wait for a PostgreSQL that is away. */
  databaseGrace: number
  /** Addresses and networks of proxies, whose X-Forwarded-For is believed. */
  trustedProxies?: readonly string[]
}

export interface AppOptions {
  log: Log
  now?: () => number
  writer?: WriterOptions['limits']
  /** Milliseconds that a project counts as one that sends after an event of it. */
  contendedFor?: number
  /** Milliseconds between the listener's heartbeats. */
  heartbeat?: number
  /** Milliseconds between the marks of a stream. */
  markEvery?: number
  /** Milliseconds that a stream socket may stay slow. */
  slowLimit?: number
  /** Milliseconds that a subscription waits for a database that is away. */
  databaseLimit?: number
  mostPerToken?: number
  watch?: { after: number; every: number }
}

export interface App extends Service {
  /** Bound port; 0 before start. */
  readonly port: number
}

/** Milliseconds that begun requests get at shutdown; the writer and the database need the rest of the five seconds. */
const finishWithin = 2_000

const pause = (milliseconds: number) =>
  new Promise<void>((resolve) => {
    setTimeout(resolve, milliseconds).unref()
  })

const knownMethods = new Set(['get', 'head', 'post', 'put', 'patch', 'delete', 'options'])

/** Replays that are read and sent at the same time: one may be at every page that its readers are at, 18 MB at most. */
const replaysAtOnce = 8

export function createApp(config: AppConfig, options: AppOptions): App {
  const { log } = options
  const now = options.now ?? Date.now
  const { databaseUrl } = config
  const metrics = createMetrics()
  const watch = createConnectionWatch({ databaseUrl, log, ...options.watch })
  const pool = createPool(databaseUrl, log, { watch })
  // Slow queries of people must not make a healthy listener look deaf.
  // One on a connection that the network swallowed is given up before the listener is taken for deaf a second time.
  const heartbeats = createPool(databaseUrl, log, { applicationName: 'mesher heartbeat', max: 1, timeout: 2_000 })
  const db = createDb(pool)
  const keys = createKeys(db, now)
  const tokens = createTokens(db, now)
  const replay = createReplay(pool)
  const server = createHttpServer({
    log,
    // Anybody can send any method: as a label it would be a series of its own.
    onRequest: (method, route, status, seconds) =>
      metrics.requests.observe({ method: knownMethods.has(method) ? method : 'other', route, status }, seconds),
  })
  const relay = createRelay({
    publish: (topic, text) => void server.publish(topic, text),
    replay,
    log,
    markEvery: options.markEvery,
    onMessages: (count) => metrics.messages.inc(count),
    onGap: () => metrics.gaps.inc({ reason: 'listener_lost' }),
  })
  const contention = createContention(options.contendedFor)
  const writer = createWriter({
    databaseUrl,
    connections: config.writers,
    grace: config.databaseGrace,
    watch,
    log,
    contention,
    findBlocker: (pid) => findBlocker(pool, pid),
    findKnown: (projectId, hashes) => findKnownHashes(pool, projectId, hashes),
    onBatch(events, seconds) {
      metrics.batchEvents.observe(events)
      metrics.batchSeconds.observe(seconds)
    },
    limits: options.writer,
  })
  const reports = createReportWriter({ pool, grace: config.databaseGrace, log })
  const accept = createAccept({
    keys,
    writer,
    reports,
    turns: createTurns({ contention, now: () => performance.now() }),
    log,
    now,
    countDropped({ type, category, quantity }) {
      metrics.items.inc({ type })
      metrics.dropped.inc({ category }, quantity)
    },
    countEvent: (result) => metrics.events.inc({ result }),
  })
  const senderOf = createSenderOf(config.trustedProxies ?? [])
  const ingest = ingestSocket({ accept, senderOf, log })
  const streams = streamSocket({
    relay,
    line: createLine({ read: replay.read, limit: createLimit(replaysAtOnce) }),
    authenticate: tokens.authenticate,
    project: tokens.project,
    log,
    onGap: () => metrics.gaps.inc({ reason: 'slow_consumer' }),
    slowLimit: options.slowLimit,
    databaseLimit: options.databaseLimit,
    mostPerToken: options.mostPerToken,
  })

  let stopping = false
  let revocation: 'none' | 'due' | 'asked' = 'none'

  function heard(notification: Notification) {
    if (notification.action === 'keys') {
      keys.forget(notification.public_key)
      if (notification.revoked) void closeRevoked()
    } else if (notification.action === 'tokens') {
      tokens.forget(notification.token_id)
      if (notification.revoked) void closeRevoked()
    } else relay.handle(notification)
  }

  /**
   * Closes the sockets of what the tables say is revoked, and asks until they answer: a notification may have been missed while
   * nobody listened, and anybody who may connect to the database can send one.
   */
  async function closeRevoked(): Promise<void> {
    const running = revocation !== 'none'
    revocation = 'due'
    if (running) return
    for (let wait = 50; revocation === 'due' && !stopping; wait = Math.min(wait * 2, 1_000)) {
      try {
        revocation = 'asked'
        const revoked = await findRevoked(db, { tokens: streams.tokens(), keys: ingest.keys() })
        for (const tokenId of revoked.tokens) streams.closeToken(tokenId)
        for (const publicKey of revoked.keys) ingest.closeKey(publicKey)
      } catch (error) {
        revocation = 'due'
        log.warn('access.recheck_failed', { error })
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
    revocation = 'none'
  }

  const listener = createListener({
    databaseUrl,
    beat: (payload) => sendBeat(heartbeats, payload),
    onNotification: heard,
    onConnected() {
      relay.connected()
      keys.forgetAll()
      tokens.forgetAll()
      void closeRevoked()
    },
    onLost() {
      metrics.listenerLost.inc()
      relay.lost()
    },
    log,
    heartbeat: options.heartbeat,
  })

  let port = 0

  async function readiness() {
    const database = await probeDatabase(pool)
    const { blocked, ...backlog } = writer.state()
    const heardOf = { ...listener.state(), relay: relay.state() }
    const ready = !stopping && database.ok && heardOf.connected && heardOf.relay === 'live'
    return { ready, stopping, database, listener: heardOf, backlog, blocked }
  }

  metrics.watch({
    queued: () => writer.state().queued,
    streamSockets: () => streams.size(),
    ingestSockets: () => ingest.size(),
    notifyLagSeconds: () => listener.state().lag_ms / 1000,
    listenerConnected: () => listener.state().connected,
  })

  const routes = [
    ...ingestRoutes({ accept, senderOf }),
    ...bindApi(
      apiRoutes({
        tokens,
        issues: createIssues(db),
        feedback: createFeedback(db),
        clientReports: createClientReports(db),
        groupings: createGroupings(db),
        act: (action, act) => actOnIssue(db, now, action, act),
        merges: createMerges(databaseUrl),
      }),
      tokens.authenticate,
    ),
    ...serviceRoutes({ readiness, metrics: metrics.text }),
    ...pageRoutes(),
  ]
  for (const route of routes) server.http(route)
  server.socket(ingest.route)
  server.socket(streams.route)

  const front: Service = {
    name: 'server',
    async start() {
      await relay.ready()
      port = await server.listen(config.host, config.port)
    },
    // Nothing new, then whatever was begun is finished: requests and ingest sockets wait for their commits.
    async stop() {
      stopping = true
      server.closeListener()
      streams.shutDown()
      // A client that never ends its request is not waited for; what it sent is not answered, and not lost to anybody.
      await Promise.race([Promise.all([server.idle(), ingest.drain()]), pause(finishWithin)])
    },
  }
  // Last of all, so that what the writer still commits reaches whoever is still connected.
  const back: Service = {
    name: 'sockets',
    async start() {},
    async stop() {
      server.close()
    },
  }
  const connections: Service = {
    name: 'pool',
    start: async () => {},
    stop: async () => void (await Promise.all([pool.end(), heartbeats.end()])),
  }
  const parts = [
    watch,
    connections,
    back,
    relay,
    listener,
    createTagFolder(pool, log),
    createArchiveTimer(pool, log),
    writer,
    reports,
    createMaintenance(databaseUrl, log, watch),
    front,
  ]
  const all = services(parts, log)
  return {
    name: 'app',
    get port() {
      return port
    },
    start: all.start,
    stop: all.stop,
  }
}
