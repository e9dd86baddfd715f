// A stream client as protocol.md wants it: it comes back with its last cursor after every close, resumes after a `gap`,
// and drops what it has seen. What it holds in the end has to be exactly what was committed.

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { WebSocket } from 'ws'
import type { Filters, Level, ServerMessage } from '../../server/protocol.ts'
import type { TestApp } from './app.ts'
import type { TestDatabase } from './database.ts'
import { eventually } from './eventually.ts'

export interface Follower {
  /** Ids of events, in the order of their first arrival. */
  events: Set<string>
  /** `<action> <issue_id>` of every issue message. */
  issues: Set<string>
  /** The newest count of unresolved issues that it was told. */
  unresolved: number | null
  cursor: string
  connections: number
  gaps: string[]
  resyncs: string[]
  /** Closes sent by the server: code and reason. */
  closes: string[]
  /** Loses the connection at once, and comes back. */
  cut(): void
  /** Loses the connection and stays away. */
  leave(): void
  comeBack(): void
  /** The first subscription is in force. */
  ready: Promise<void>
}

export interface FollowOptions extends Partial<Filters> {
  since?: string
  /** Called with every message, before anything else happens. */
  onMessage?(message: ServerMessage): void
}

export function follow(t: TestContext, server: TestApp, options: FollowOptions = {}): Follower {
  const { level = [], environment = [], onMessage } = options
  let socket: WebSocket | null = null
  let away = false
  let resolveReady = () => {}
  const follower: Follower = {
    events: new Set(),
    issues: new Set(),
    unresolved: null,
    cursor: options.since ?? '',
    connections: 0,
    gaps: [],
    resyncs: [],
    closes: [],
    cut: () => socket?.terminate(),
    leave() {
      away = true
      socket?.terminate()
    },
    comeBack() {
      away = false
      if (socket === null) connect()
    },
    ready: new Promise((resolve) => {
      resolveReady = resolve
    }),
  }

  function connect() {
    const query = new URLSearchParams({ sample: 'false' })
    for (const one of level) query.append('level', one)
    for (const one of environment) query.append('environment', one)
    if (follower.cursor !== '') query.append('since', follower.cursor)
    const url = `${server.url.replace('http', 'ws')}/stream/projects/${server.project_id}?${query}`
    const mine = new WebSocket(url, { headers: { authorization: `Bearer ${server.token}` } })
    socket = mine
    mine.on('error', () => {})
    mine.on('message', (data) => {
      if (mine === socket) receive(JSON.parse(String(data)) as ServerMessage)
    })
    mine.on('close', (code, reason) => {
      if (mine !== socket) return
      socket = null
      if (code !== 1006) follower.closes.push(`${code} ${reason}`)
      // A server that refuses is not asked in a tight loop.
      if (!away) setTimeout(() => !away && socket === null && connect(), 10)
    })
  }

  function receive(message: ServerMessage) {
    onMessage?.(message)
    if ('cursor' in message) follower.cursor = message.cursor
    if (message.type === 'event') follower.events.add(message.data.id)
    if (message.type === 'issue') follower.issues.add(`${message.action} ${message.issue_id}`)
    if (message.type === 'issue_count') follower.unresolved = message.count
    if (message.type === 'resync') follower.resyncs.push(message.reason)
    if (message.type === 'filters_updated') follower.unresolved = message.unresolved
    if (message.type === 'subscribed') {
      follower.connections += 1
      follower.unresolved = message.unresolved
      resolveReady()
    }
    if (message.type !== 'gap') return
    follower.gaps.push(message.reason)
    socket?.send(
      JSON.stringify({ type: 'subscribe', filters: { level, environment }, sample: false, since: message.cursor }),
    )
  }

  connect()
  t.after(() => follower.leave())
  return follower
}

/** What the database says was committed, for these filters. */
export async function committed(database: TestDatabase, projectId: string, filters: Partial<Filters> = {}) {
  const rows = await database.sql<{ id: string; level: Level; environment: string | null }>(
    "select replace(id::text, '-', '') as id, level, environment from events where project_id = $1 order by id",
    [projectId],
  )
  const actions = await database.sql<{ change: string }>(
    "select action || ' ' || issue_id as change from issue_activity where project_id = $1 order by 1",
    [projectId],
  )
  const [counted] = await database.sql<{ unresolved: number }>(
    "select count(*)::int as unresolved from issues where project_id = $1 and status = 'unresolved'",
    [projectId],
  )
  const fits = <T>(list: T[] | undefined, value: T) => !list || list.length === 0 || list.includes(value)
  const events = rows.filter(
    ({ level, environment }) =>
      fits(filters.level, level) &&
      (environment === null ? (filters.environment ?? []).length === 0 : fits(filters.environment, environment)),
  )
  return {
    events: events.map(({ id }) => id),
    issues: actions.map(({ change }) => change),
    unresolved: counted!.unresolved,
  }
}

/** Waits until a follower holds what was committed; fails when it stays short, and when it holds anything else. */
export async function holds(follower: Follower, expected: Awaited<ReturnType<typeof committed>>, message: string) {
  await eventually(() => {
    const missing = expected.events.filter((id) => !follower.events.has(id)).length
    const changes = expected.issues.filter((change) => !follower.issues.has(change))
    assert.deepEqual([missing, changes], [0, []], `${message}: events and issue changes that are missing`)
    assert.equal(follower.unresolved, expected.unresolved, `${message}: unresolved issues`)
  }, 20_000)
  const known = new Set(expected.events)
  assert.deepEqual(
    [...follower.events].filter((id) => !known.has(id)),
    [],
    `${message}: events beyond the filters`,
  )
  assert.deepEqual([...follower.issues].sort(), [...new Set(expected.issues)].sort(), message)
}
