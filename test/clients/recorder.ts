// Stands between a client and Mesher, passes every byte on, and keeps both sides of it. What the client sent is read here
// anew and not by the server's own parser, which is what is tested.

import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib'
import type { TestApp } from '../support/app.ts'
import type { Scope } from '../support/scope.ts'
import { within } from '../support/within.ts'

export interface Exchange {
  method: string
  /** With its query. */
  path: string
  headers: IncomingHttpHeaders
  /** As it was sent, still encoded. */
  body: Buffer
  status: number
  answerHeaders: IncomingHttpHeaders
  answer: string
}

export interface SentItem {
  type: string
  header: Record<string, unknown>
  payload: Buffer
}

export type SentEvent = Record<string, unknown> & { event_id: string }

export interface Recorder {
  /** http://127.0.0.1:port, another origin than any page that a test serves. */
  url: string
  dsn: string
  /** In the order in which they were answered. */
  exchanges: Exchange[]
  items(): SentItem[]
  ofType(type: string): SentItem[]
  events(): SentEvent[]
  /** Resolves with the first exchange, of all, for which this holds. */
  next(what: string, wanted: (exchange: Exchange) => boolean): Promise<Exchange>
}

export async function createRecorder(t: Scope, app: TestApp): Promise<Recorder> {
  const exchanges: Exchange[] = []
  const waiting: { wanted(exchange: Exchange): boolean; resolve(exchange: Exchange): void }[] = []

  function keep(exchange: Exchange) {
    exchanges.push(exchange)
    for (const one of waiting) if (one.wanted(exchange)) one.resolve(exchange)
  }

  const server = createServer((incoming, outgoing) => {
    // Kept before the client has its answer, so that whoever heard from the client finds it here.
    pass(incoming, app.app.port).then(
      ({ exchange, body, rawHeaders }) => {
        keep(exchange)
        outgoing.writeHead(exchange.status, rawHeaders).end(body)
      },
      () => outgoing.destroy(),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  const items = () => exchanges.flatMap(itemsOf)
  return {
    url: `http://127.0.0.1:${port}`,
    dsn: `http://${app.public_key}@127.0.0.1:${port}/${app.project_id}`,
    exchanges,
    items,
    ofType: (type) => items().filter((item) => item.type === type),
    events: () => exchanges.flatMap(eventsOf),
    next(what, wanted) {
      const present = exchanges.find(wanted)
      if (present) return Promise.resolve(present)
      return within(what, new Promise((resolve) => waiting.push({ wanted, resolve })), 30_000)
    },
  }
}

async function pass(incoming: IncomingMessage, port: number) {
  const { method, url: path, headers, rawHeaders } = incoming
  const onward = request({ host: '127.0.0.1', port, method, path, headers: pairsOf(rawHeaders) })
  const sent: Buffer[] = []
  incoming.on('data', (chunk) => {
    sent.push(chunk)
    onward.write(chunk)
  })
  incoming.on('end', () => onward.end())
  const [answer] = (await once(onward, 'response')) as [IncomingMessage]
  const answered: Buffer[] = []
  for await (const chunk of answer) answered.push(chunk)
  const exchange: Exchange = {
    method: method!,
    path: path!,
    headers,
    body: Buffer.concat(sent),
    status: answer.statusCode!,
    answerHeaders: answer.headers,
    answer: Buffer.concat(answered).toString(),
  }
  return { exchange, body: Buffer.concat(answered), rawHeaders: answer.rawHeaders }
}

/** Headers that came twice are sent on twice. */
function pairsOf(rawHeaders: string[]): Record<string, string | string[]> {
  const pairs: Record<string, string[]> = {}
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    pairs[name] = [...(pairs[name] ?? []), rawHeaders[at + 1]!]
  }
  return Object.fromEntries(
    Object.entries(pairs).map(([name, values]) => [name, values.length === 1 ? values[0]! : values]),
  )
}

export function itemsOf(exchange: Exchange): SentItem[] {
  if (exchange.method !== 'POST') return []
  const body = decoded(exchange)
  if (/\/store\/?(\?|$)/.test(exchange.path)) return [{ type: 'event', header: {}, payload: body }]
  if (!/\/(envelope|tunnel)\/?(\?|$)/.test(exchange.path)) return []
  const items: SentItem[] = []
  let at = lineEnd(body, 0) + 1
  while (at < body.length) {
    const end = lineEnd(body, at)
    const line = body.toString('utf8', at, end)
    at = end + 1
    if (line === '') continue
    const header = JSON.parse(line) as Record<string, unknown>
    const stop = typeof header.length === 'number' ? at + header.length : lineEnd(body, at)
    items.push({ type: String(header.type), header, payload: body.subarray(at, stop) })
    at = stop + 1
  }
  return items
}

/** Python and Rust put the id into the envelope's header as well; the payload has it always. */
export function eventsOf(exchange: Exchange): SentEvent[] {
  return itemsOf(exchange)
    .filter((item) => item.type === 'event')
    .map((item) => JSON.parse(item.payload.toString()) as SentEvent)
}

function decoded({ body, headers }: Exchange): Buffer {
  const encoding = headers['content-encoding']
  if (encoding === 'gzip') return gunzipSync(body)
  if (encoding === 'deflate') return inflateSync(body)
  if (encoding === 'br') return brotliDecompressSync(body)
  // Raven: base64 of zlib, without a word about it.
  if (/^[\w+/]+=*\s*$/.test(body.toString('latin1', 0, 200))) return inflateSync(Buffer.from(body.toString(), 'base64'))
  return body
}

function lineEnd(body: Buffer, from: number): number {
  const end = body.indexOf(0x0a, from)
  return end === -1 ? body.length : end
}
