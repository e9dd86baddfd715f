// Finds connections that the network swallowed: both ends are there and nothing passes any more. The system notices after
// a quarter of an hour, and a time-out short enough to help would end slow statements too. So PostgreSQL is asked, over
// another connection: a backend that waits for us while we wait for it will wait for ever. Its connection is given up, and
// the backend ended, for it may hold locks. One that works, or waits for a lock, is left alone however long it takes.

import pg from 'pg'
import type { Log } from '../log.ts'
import type { Service } from '../service.ts'
import { connectionConfig } from './pool.ts'

export interface ConnectionWatch extends Service {
  /** Of a new connection, before its first use. */
  introduce(client: pg.ClientBase): Promise<void>
  /** It is at work from now on, until `idle`. */
  busy(client: pg.ClientBase): void
  idle(client: pg.ClientBase): void
}

export interface WatchOptions {
  databaseUrl: string
  log: Log
  /** Milliseconds at work before one is looked at. */
  after?: number
  /** Milliseconds between looks. */
  every?: number
}

interface Backend {
  pid: number
  backend_start: string
}

interface Watched extends Backend {
  since: number
  /** What each look so far has found, always the same. */
  seen: string
  looks: number
}

interface Found extends Backend {
  state_change: string | null
  waits_for_us: boolean | null
}

/** So many looks in a row have to find the same: a large batch on its way looks alike. */
const looksNeeded = 4
/** Milliseconds for a new connection's first question, which nobody watches yet. */
const introductionTime = 5_000

/**
 * A machine that is gone frees its connections within a minute (PostgreSQL would keep them for two hours), and a transaction
 * that nobody goes on with ends: no lock of ours outlives us for long. `watch` names backends by pid and start, as pids
 * come again.
 */
const introduction = `
  select pid, backend_start::text, set_config('idle_in_transaction_session_timeout', '15s', false),
         set_config('tcp_keepalives_idle', '20', false), set_config('tcp_keepalives_interval', '10', false),
         set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '30s', false)
    from pg_stat_activity where pid = pg_backend_pid()`

const lookQuery = `
  select pid, backend_start::text, state_change::text,
         state like 'idle%' or state = 'active' and wait_event_type = 'Client' as waits_for_us
    from pg_stat_activity where pid = any ($1)`

export function createConnectionWatch({
  databaseUrl,
  log,
  after = 2_000,
  every = 1_000,
}: WatchOptions): ConnectionWatch {
  const backends = new WeakMap<pg.ClientBase, Backend>()
  const atWork = new Map<pg.ClientBase, Watched>()
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> | undefined

  async function look(due: [pg.ClientBase, Watched][]): Promise<void> {
    const on = new pg.Client({ ...connectionConfig(databaseUrl, 'mesher watch'), query_timeout: 5_000 })
    on.on('error', () => {})
    try {
      await on.connect()
      const { rows } = await on.query<Found>(lookQuery, [due.map(([, { pid }]) => pid)])
      for (const [client, watched] of due) {
        // Meanwhile its answer may have come, and the next question may be under way.
        if (atWork.get(client) === watched && isLost(watched, rows)) await giveUp(client, watched, on)
      }
      log.debug('database.looked', { connections: due.length })
    } catch (error) {
      log.debug('database.watch_failed', { error })
    } finally {
      await on.end().catch(() => {})
    }
  }

  function isLost(watched: Watched, rows: Found[]): boolean {
    const found = rows.find((row) => row.pid === watched.pid && row.backend_start === watched.backend_start)
    const seen = found ? `${found.waits_for_us} ${found.state_change}` : 'gone'
    watched.looks = seen === watched.seen ? watched.looks + 1 : 1
    watched.seen = seen
    return watched.looks >= looksNeeded && (!found || found.waits_for_us === true)
  }

  async function giveUp(client: pg.ClientBase, watched: Watched, on: pg.Client): Promise<void> {
    const { pid, backend_start, since } = watched
    atWork.delete(client)
    log.warn('database.connection_lost', { pid, waited_ms: Math.round(performance.now() - since) })
    // Who is told next will try again at once, and would wait for these locks.
    const ended = on.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2',
      [pid, backend_start],
    )
    await ended.catch((error) => log.warn('database.backend_not_ended', { pid, error }))
    // With a query under way `end` does not wait for the other side.
    void (client as pg.Client).end().catch(() => {})
  }

  function tick() {
    const limit = performance.now() - after
    const due = [...atWork].filter(([, { since }]) => since < limit)
    if (due.length === 0 || looking) return
    looking = look(due).finally(() => {
      looking = undefined
    })
  }

  return {
    name: 'connection watch',
    async start() {
      timer = setInterval(tick, every)
    },
    async stop() {
      clearInterval(timer)
      await looking
    },
    async introduce(client) {
      // pg takes this time-out for one query too; its types do not say so.
      const query = { text: introduction, query_timeout: introductionTime }
      const { rows } = await client.query<Backend>(query)
      const { pid, backend_start } = rows[0]!
      backends.set(client, { pid, backend_start })
    },
    busy(client) {
      const backend = backends.get(client)
      if (backend) atWork.set(client, { ...backend, since: performance.now(), seen: '', looks: 0 })
    },
    idle: (client) => void atWork.delete(client),
  }
}
