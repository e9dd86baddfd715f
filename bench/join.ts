// Coming back to a stream: one dashboard whose cursor is 1,000 events old, on tables of some size, and 1,000 dashboards at
// once whose server was restarted under them. Whatever was committed must have come to each, else the run fails.

import { randomInt } from 'node:crypto'
import type { Socket } from 'node:net'
import pg from 'pg'
import { until } from './dashboards.ts'
import type { Database } from './database.ts'
import { newId } from './events.ts'
import { type Bench, type Context, mustEqual, quantile, rounded } from './figure.ts'
import { createFrameReader, opcodes, openWebSocket } from './frames.ts'
import { type RunningServer, restartServer, startServer } from './server.ts'

const cursorField = Buffer.from('"cursor":"')
const idField = Buffer.from('"data":{"id":"')
const markField = Buffer.from('{"type":"mark"')
const buffer = Buffer.alloc(256 * 1024)

/** What a dashboard makes of its frames: the last cursor, the events it has seen, whether it is caught up. */
interface Follower {
  cursor: string
  seen: Set<string>
  /** A mark ends the replay. */
  marks: number
  socket: Socket | null
}

const newFollower = (): Follower => ({ cursor: '', seen: new Set(), marks: 0, socket: null })

async function connect(server: RunningServer, follower: Follower, onClose: () => void): Promise<void> {
  const since = follower.cursor === '' ? '' : `&since=${follower.cursor}`
  const url = `ws://127.0.0.1:${server.port}/stream/projects/${server.project_id}?sample=false${since}`
  const read = createFrameReader((opcode, chunk, from, to) => {
    if (opcode !== opcodes.text) return
    const frame = chunk.subarray(from, to)
    const cursor = frame.lastIndexOf(cursorField)
    if (cursor >= 0) {
      const begin = cursor + cursorField.length
      follower.cursor = frame.toString('latin1', begin, frame.indexOf(0x22, begin))
    }
    if (frame.indexOf(markField) === 0) follower.marks += 1
    const id = frame.indexOf(idField)
    if (id >= 0) follower.seen.add(frame.toString('latin1', id + idField.length, id + idField.length + 32))
  })
  follower.socket = await openWebSocket(url, { authorization: `Bearer ${server.token}` }, buffer, read)
  follower.socket.on('error', () => {})
  follower.socket.once('close', onClose)
}

/** In transactions of a few events, as a server under some load writes them. Returns their ids. */
async function insertEvents(database: Database, projectId: string, count: number, each: number): Promise<string[]> {
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  const ids: string[] = []
  try {
    while (ids.length < count) {
      const some = Array.from({ length: Math.min(each, count - ids.length) }, newId)
      await client.query(
        `insert into events (project_id, issue_id, id, title, culprit, environment, release, level, payload)
         select $1, 1 + n % 50, id::uuid, 'Error: Could not load item ' || n, 'GET /api/carts/:id', 'production', 'shop@2.1.0',
                'error', json_build_object('extra', repeat('x', 1200))
           from unnest($2::text[]) with ordinality as x(id, n)`,
        [projectId, some],
      )
      ids.push(...some)
    }
  } finally {
    await client.end()
  }
  return ids
}

const missingOf = (follower: Follower, ids: string[]) => ids.filter((id) => !follower.seen.has(id)).length

export const join1000: Bench = async (context) => {
  const { smoke } = context
  const database = await context.database({ migrated: false })
  const server = await startServer(context, database)
  await insertEvents(database, server.project_id, smoke ? 1_000 : 100_000, 1_000)
  await database.sql('vacuum analyze')
  const before = newFollower()
  await connect(server, before, () => {})
  await until(() => before.cursor !== '', 10_000, 'the first dashboard is subscribed')
  const since = before.cursor
  before.socket!.destroy()
  const missed = await insertEvents(database, server.project_id, smoke ? 100 : 1_000, 5)

  const times: number[] = []
  const rounds = smoke ? 3 : 60
  for (let n = 0; n < rounds; n++) {
    const follower = { ...newFollower(), cursor: since }
    const begun = performance.now()
    const done = new Promise<void>((resolve, reject) => {
      const look = setInterval(() => {
        if (follower.marks === 0) return
        clearInterval(look)
        resolve()
      }, 0)
      connect(server, follower, () => reject(new Error('the server closed a dashboard that joined'))).catch(reject)
    })
    await done
    times.push(performance.now() - begun)
    follower.socket!.removeAllListeners('close').destroy()
    mustEqual(missingOf(follower, missed), 0, 'events that a dashboard misses')
  }
  // The first one makes the server load and plan.
  const sorted = times.slice(1).sort((a, b) => a - b)
  return {
    value: rounded(quantile(sorted, 0.5), 1),
    unit: 'ms',
    p99: rounded(quantile(sorted, 0.99), 1),
    least: rounded(sorted[0]!, 1),
    first: rounded(times[0]!, 1),
    joins: sorted.length,
    missed: missed.length,
  }
}

export const reconnect1000: Bench = async (context: Context) => {
  const size = context.smoke ? 50 : 1_000
  const database = await context.database({ migrated: false })
  let server = await startServer(context, database, { port: randomInt(10_240, 32_768) })
  const followers = Array.from({ length: size }, newFollower)
  let closing = false
  let closes = 0

  /** As the client in the README: half a second to a second after every close, and with its cursor. */
  async function follow(follower: Follower): Promise<void> {
    if (closing) return
    const again = () => {
      closes += 1
      follower.marks = 0
      setTimeout(follow, 500 + 500 * Math.random(), follower)
    }
    await connect(server, follower, again).catch(() => setTimeout(follow, 500 + 500 * Math.random(), follower))
  }

  context.after(async () => {
    closing = true
    for (const { socket } of followers) socket?.destroy()
  })
  for (let at = 0; at < size; at += 100) await Promise.all(followers.slice(at, at + 100).map(follow))
  await until(() => followers.every(({ cursor }) => cursor !== ''), 30_000, 'every dashboard is subscribed')

  const early = await insertEvents(database, server.project_id, 100, 5)
  await until(() => followers.every((one) => missingOf(one, early) === 0), 30_000, 'every dashboard has what is live')
  closes = 0
  const down = performance.now()
  await server.stop()
  const away = insertEvents(database, server.project_id, context.smoke ? 50 : 200, 5)
  server = await restartServer(context, database, server)
  const listening = performance.now()
  await until(() => closes >= size && followers.every(({ marks }) => marks > 0), 60_000, 'every dashboard is back')
  const back = performance.now()
  const missed = await away
  // Live again means that what is committed now arrives, and nothing of what was is missing.
  const late = await insertEvents(database, server.project_id, 10, 1)
  await until(() => followers.every((one) => missingOf(one, late) === 0), 30_000, 'every dashboard is live again')
  const lost = followers.reduce((sum, one) => sum + missingOf(one, [...early, ...missed]), 0)
  mustEqual(lost, 0, 'events that some dashboard misses')
  return {
    value: rounded((back - listening) / 1000, 2),
    unit: 's',
    down_s: rounded((listening - down) / 1000, 2),
    dashboards: size,
    missed: missed.length,
  }
}
