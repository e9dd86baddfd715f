// A whole server in this process on a database of its own, stopped after the test.

import { randomUUID } from 'node:crypto'
import type { OpenIdConfig } from '../../server/access/openid.ts'
import { type App, type AppOptions, createApp } from '../../server/app.ts'
import type { FirstStart } from '../../server/db/bootstrap.ts'
import { newId } from './batch.ts'
import { createDatabase, firstStart, type TestDatabase } from './database.ts'
import { createTestLog, type TestLog } from './log.ts'
import type { Scope } from './scope.ts'
import { openStream, type StreamClient, type StreamOptions } from './stream.ts'

export interface TestApp extends FirstStart {
  app: App
  database: TestDatabase
  log: TestLog
  /** http://127.0.0.1:port */
  url: string
  dsn: string
  /** Sends one event through POST /api/v1/events; throws unless it is accepted. */
  send(event: Record<string, unknown>): Promise<{ id: string; issue_id: string }>
  /** The HTTP API with the token. */
  api<T = unknown>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }>
  /** A stream of project `app` with the token, past `subscribed`. */
  stream(options?: StreamOptions): Promise<StreamClient>
}

export interface TestAppOptions extends Omit<AppOptions, 'log'> {
  databaseGrace?: number
  writers?: number
  trustedProxies?: string[]
  /** Any free one when absent. */
  port?: number
  setupToken?: string | null
  openId?: OpenIdConfig | null
}

export async function startApp(t: Scope, options: TestAppOptions = {}): Promise<TestApp> {
  const database = await createDatabase(t)
  return startAppOn(t, database, await firstStart(database), options)
}

/** Another server on a database that has one already. */
export async function startAppOn(
  t: Scope,
  database: TestDatabase,
  first: FirstStart,
  {
    databaseGrace = 2_000,
    writers = 2,
    trustedProxies = [],
    setupToken = null,
    openId = null,
    port = 0,
    ...options
  }: TestAppOptions = {},
): Promise<TestApp> {
  const log = createTestLog()
  const config = {
    host: '127.0.0.1',
    port,
    databaseUrl: database.url,
    writers,
    databaseGrace,
    trustedProxies,
    setupToken,
    openId,
  }
  const app = createApp(config, { log, heartbeat: 500, ...options })
  t.after(() => app.stop())
  await app.start()
  const url = `http://127.0.0.1:${app.port}`
  const test: TestApp = {
    ...first,
    app,
    database,
    log,
    url,
    dsn: `http://${first.public_key}@127.0.0.1:${app.port}/${first.project_id}`,
    async send(event) {
      const response = await fetch(`${url}/api/v1/events`, {
        method: 'POST',
        headers: { authorization: `Bearer ${first.public_key}` },
        body: JSON.stringify({ event_id: randomUUID().replaceAll('-', ''), ...event }),
      })
      const body = (await response.json()) as { id: string; issue_id: string }
      if (response.status !== 202) throw new Error(`${response.status} ${JSON.stringify(body)}`)
      return body
    },
    async api<T>(method: string, path: string, body?: unknown) {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: { authorization: `Bearer ${first.token}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      return { status: response.status, body: (await response.json()) as T }
    },
    async stream(streamOptions = {}) {
      const client = openStream(
        t,
        `ws://127.0.0.1:${app.port}/stream/projects/${first.project_id}`,
        first.token,
        streamOptions,
      )
      await client.next('subscribed')
      return client
    },
  }
  return test
}

/** A second project of the server's organization, with a key. */
export async function addProject(server: TestApp, slug: string): Promise<{ project_id: string; public_key: string }> {
  const public_key = newId()
  const [row] = await server.database.sql<{ id: string }>(
    'insert into projects (organization_id, slug, name) select id, $1, $1 from organizations limit 1 returning id',
    [slug],
  )
  await server.database.sql('insert into project_keys (public_key, project_id) values ($1, $2)', [public_key, row!.id])
  return { project_id: row!.id, public_key }
}
