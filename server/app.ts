// The composition root: every part is built here and handed what it needs. Events flow from the doors to the writer to
// PostgreSQL; what was committed comes back through the listener to the relay and the sockets. There is no other way
// from one half to the other.

import { createAccounts } from './access/accounts.ts'
import { createKeys } from './access/keys.ts'
import { createOpenId, type OpenIdConfig } from './access/openid.ts'
import { createPasswords } from './access/passwords.ts'
import { findRevoked } from './access/revoked.ts'
import { createSessions } from './access/sessions.ts'
import { createTargets } from './access/targets.ts'
import { createThrottle } from './access/throttle.ts'
import { createTokens } from './access/tokens.ts'
import { createContention } from './contention.ts'
import { createArchiveTimer } from './db/archive-timer.ts'
import { sendBeat } from './db/beat.ts'
import { createTagFolder } from './db/fold.ts'
import { createMaintenance } from './db/maintain.ts'
import { createDb, createPool } from './db/pool.ts'
import { findBlocker, findKnownHashes, probeDatabase } from './db/probe.ts'
import { createConnectionWatch } from './db/watch.ts'
import { accountRoutes } from './http/account-routes.ts'
import { bindApi } from './http/api.ts'
import { createEdge } from './http/edge.ts'
import { groupingRoutes } from './http/grouping-routes.ts'
import { issueRoutes } from './http/issue-routes.ts'
import { openIdRoutes } from './http/openid-routes.ts'
import { pageRoutes } from './http/pages.ts'
import { reportRoutes } from './http/report-routes.ts'
import { serviceRoutes } from './http/service.ts'
import { tenancyRoutes } from './http/tenancy-routes.ts'
import { triageRoutes } from './http/triage-routes.ts'
import { createHttpServer } from './http/uws.ts'
import { createAccept } from './ingest/accept.ts'
import { ingestRoutes } from './ingest/doors.ts'
import { createProxyCheck, createSenderOf } from './ingest/sender.ts'
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
  /** What browsers find this server at; undefined: what their Host header says. */
  publicUrl?: string | undefined
  /** Sign-in with a provider; null or absent: with passwords alone. */
  openId?: OpenIdConfig | null
  /** Asked of whoever makes the first account; null when nobody else can reach this server. */
  setupToken?: string | null
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
  /** Everything that answers, sockets too (as `ws`). */
  readonly routes: { method: string; path: string }[]
  /** Nobody has an account yet. */
  needsSetup(): Promise<boolean>
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
  const sessions = createSessions(db, now)
  const targets = createTargets(db)
  const issues = createIssues(db)
  const senderOf = createSenderOf(config.trustedProxies ?? [])
  const edge = createEdge({
    publicUrl: config.publicUrl,
    addressOf: (request) => senderOf(request).client_ip ?? '',
    isProxy: createProxyCheck(config.trustedProxies ?? []),
  })
  const setupToken = config.setupToken ?? null
  const accounts = createAccounts({ db, passwords: createPasswords(), throttle: createThrottle(db), setupToken })
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
  const ingest = ingestSocket({ accept, senderOf, log })
  const streams = streamSocket({
    relay,
    line: createLine({ read: replay.read, limit: createLimit(replaysAtOnce) }),
    authenticate: (secret) => (secret.startsWith('msh_') ? tokens : sessions).authenticate(secret),
    sessionCookie(request) {
      const cookie = edge.sessionCookie(request)
      if (cookie !== '') edge.checkOrigin(request)
      return cookie
    },
    project: (access, idOrSlug) => targets.project(access, idOrSlug, 'read'),
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
    } else if (notification.action === 'access') {
      forgetPeople()
      void closeRevoked()
    } else relay.handle(notification)
  }

  function forgetPeople() {
    tokens.forgetAll()
    sessions.forgetAll()
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
        const revoked = await findRevoked(db, { followers: streams.followers(), keys: ingest.keys() })
        for (const follower of revoked.followers) streams.closeFollower(follower)
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
      forgetPeople()
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
      [
        ...accountRoutes({
          db,
          accounts,
          targets,
          oidcName: config.openId?.name ?? null,
          asksForSetupToken: setupToken !== null,
          accessChanged: forgetPeople,
        }),
        ...tenancyRoutes({ db, targets, accessChanged: forgetPeople }),
        ...issueRoutes({ issues }),
        ...triageRoutes({ act: (action, act) => actOnIssue(db, now, action, act), merges: createMerges(databaseUrl) }),
        ...groupingRoutes({ groupings: createGroupings(db) }),
        ...reportRoutes({ feedback: createFeedback(db), clientReports: createClientReports(db) }),
      ],
      {
        edge,
        targets,
        findIssue: issues.find,
        authenticateToken: tokens.authenticate,
        authenticateSession: sessions.authenticate,
      },
    ),
    ...openIdRoutes({ openId: config.openId ? createOpenId(db, config.openId) : null, edge, log }),
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
    routes: [
      ...routes.map(({ method, path }) => ({ method, path })),
      ...[ingest.route, streams.route].map(({ path }) => ({ method: 'ws', path })),
    ],
    needsSetup: accounts.needsSetup,
    get port() {
      return port
    },
    start: all.start,
    stop: all.stop,
  }
}
