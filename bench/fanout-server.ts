// The process that fanout.ts measures: the product's path from the text of a notification to the sockets (notify, relay,
// socket, http), with no database behind it, and beside it a bare uWebSockets.js app that publishes the very texts that
// the relay makes. Both are driven alike: bursts of one notification, no more under way than the reader keeps up with.

import uws from 'uWebSockets.js'
import type { Access } from '../server/access/access.ts'
import { createHttpServer } from '../server/http/uws.ts'
import { createLog } from '../server/log.ts'
import { parseNotification } from '../server/notify/channels.ts'
import { maxBufferedBytes } from '../server/protocol.ts'
import { createLine } from '../server/relay/readings.ts'
import { createRelay } from '../server/relay/relay.ts'
import { topicsOfFilters } from '../server/relay/topics.ts'
import { streamSocket } from '../server/socket/door.ts'
import { newId } from './events.ts'

export type Order =
  | { do: 'run'; mode: 'relay' | 'bare'; sockets: number; milliseconds: number }
  | { do: 'received'; frames: number }
export type Report =
  | { is: 'ready'; relayPort: number; barePort: number; frameBytes: number; burst: number }
  | { is: 'done'; frames: number; seconds: number; cpuSeconds: number }

const burst = 16
const position = { epoch: '7000000000000000000.00000001', xid: 1_000_000n }
const everything = { level: [], environment: [] }

const log = createLog('warn')
const payloads = Array.from({ length: 50 }, (_, n) => notificationPayload(n))

function notificationPayload(n: number): string {
  const received_at = new Date().toISOString()
  const events = Array.from({ length: burst }, (_, i) => ({
    id: newId(),
    issue_id: String(1 + ((n + i) % 50)),
    level: 'error',
    environment: 'production',
    release: 'shop@2.1.0',
    platform: 'node',
    title: `Error${i}: Could not load item`,
    culprit: 'GET /api/carts/:id',
    user: `id:${n}`,
    received_at,
    timestamp: received_at,
  }))
  const head = { project_id: '1', action: 'events', unresolved: 0, version: 0, cursor: String(position.xid) }
  return JSON.stringify({ ...head, events })
}

const replay = {
  epoch: async () => position.epoch,
  read: async () => ({ position, unresolved: 0, version: 0, reason: null, page: async () => null }),
}

function newRelay(publish: (topic: string, text: string) => void) {
  const relay = createRelay({ publish, replay, log })
  relay.connected()
  return relay
}

/** What the relay makes of each payload, for the bare app. */
async function textsOfPayloads(): Promise<string[][]> {
  let texts: string[] = []
  const relay = newRelay((_topic, text) => texts.push(text))
  await relay.ready()
  const place = relay.enter('1')
  place.learn(await replay.read())
  place.addTopics(topicsOfFilters('1', 'all', everything))
  return payloads.map((payload) => {
    texts = []
    relay.handle(parseNotification(payload)!)
    relay.flush()
    return texts
  })
}

const server = createHttpServer({ log, onRequest: () => {} })
const relay = newRelay((topic, text) => void server.publish(topic, text))
const access: Access = {
  credential: 'token:1',
  actor: 'token:bench',
  user_id: null,
  grants: [{ organization_id: '1', right: 'write' }],
  only_project_id: null,
}
server.socket(
  streamSocket({
    relay,
    line: createLine({ read: replay.read, limit: (work) => work() }),
    authenticate: async () => access,
    sessionCookie: () => '',
    project: async () => ({ id: '1', slug: 'app', name: 'App', organization_id: '1' }),
    log,
  }).route,
)

const bare = uws.App().ws('/*', {
  maxBackpressure: maxBufferedBytes,
  idleTimeout: 60,
  compression: uws.DISABLED,
  open(ws) {
    ws.subscribe('all')
    ws.send('{}')
  },
})

function listenBare(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    bare.listen('127.0.0.1', port, (token) => (token ? resolve(port) : reject(new Error(`port ${port} is taken`))))
  })
}

let received = 0
let wake = () => {}

/** Half a million frames or two bursts, whichever is less than the sockets' buffers hold. */
async function run(texts: string[][], order: Extract<Order, { do: 'run' }>): Promise<Report> {
  const { mode, sockets, milliseconds } = order
  const most = Math.max(2 * burst * sockets, 64_000)
  const publish =
    mode === 'relay'
      ? (n: number) => relay.handle(parseNotification(payloads[n]!)!)
      : (n: number) => {
          for (const text of texts[n]!) bare.publish('all', text, false, false)
        }
  received = 0
  let sent = 0
  const cpu = process.cpuUsage()
  const start = performance.now()
  for (let n = 0; performance.now() < start + milliseconds; n = (n + 1) % payloads.length) {
    while (sent + burst * sockets - received > most) await progress()
    publish(n)
    sent += burst * sockets
    await new Promise((resolve) => setImmediate(resolve))
  }
  while (received < sent) await progress()
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return { is: 'done', frames: sent, seconds, cpuSeconds: (user + system) / 1e6 }
}

function progress(): Promise<void> {
  return new Promise((resolve) => {
    wake = resolve
  })
}

const report = (message: Report) => void process.send!(message)
const texts = await textsOfPayloads()
await relay.ready()
const relayPort = await server.listen('127.0.0.1', 0)
const barePort = await listenBare(relayPort + 1)
process.on('message', (order: Order) => {
  if (order.do === 'received') {
    received = order.frames
    wake()
  } else run(texts, order).then(report)
})
process.on('disconnect', () => process.exit(0))
report({ is: 'ready', relayPort, barePort, frameBytes: Buffer.byteLength(texts[0]![0]!), burst })
