// The only file that touches native request, response and socket objects. The laws it keeps, so that nobody else needs
// to know them (breaking one ends the process, corrupts memory or loses data; measured, or as the issues named here say):
// - `onAborted` is the first call on a response; after abort, end or upgrade nothing touches the response again.
// - The native request is dead when the callback returns, and chunks and messages are detached: everything is copied first.
// - No exception and no rejection leaves a native callback: that is SIGABRT, which no handler of Node's can catch.
// - Every reply is one cork, status first. After an early reply the rest of a body is read and ignored by uWebSockets.js,
//   which closes the connection when that takes more than 10 s; within them the connection stays usable (keep-alive).
// - Bodies slower than 16 KB/s, and connections idle for 10 s, are closed by uWebSockets.js itself (seen after 12 s): the
//   handler sees an abort. A handler may take as long as it likes once the body is there.
// - A header name with an underscore or a dot is never parsed by this version: such a request ends unanswered after 10 s.
// - A second request on a connection whose first is not answered yet (pipelining) closes that connection.
// - An upgrade that was decided later runs in its own turn of the event loop: inside another socket's callback the parser
//   would take the new WebSocket for that socket's. And its cork holds the upgrade alone: after the handler, cork() of this
//   version still reads the HTTP state of memory that is a WebSocket by then (uWebSockets #1929, uWebSockets.js #1108).
// - Only the chosen subprotocol is passed on, never the client's header: uWebSockets.js echoes it, with the token in it.
// - `dropped` marks and acts later: closing or unsubscribing inside it corrupts the native topic tree.
// - A socket is dead after its close handler, so sessions only hold a Peer, whose methods are no-ops from then on.

import type * as Native from 'uWebSockets.js'
import { STATUS_CODES } from 'node:http'
import { createServer } from 'node:net'
import { AppError } from '../errors.ts'
import type { Log } from '../log.ts'

// The native default of 4 KB refuses ordinary cookies and proxies' headers. It is read once, when the module loads.
process.env.UWS_HTTP_MAX_HEADERS_SIZE ??= '16384'
const { default: uws } = await import('uWebSockets.js')

export type HttpMethod = 'get' | 'post' | 'put' | 'patch' | 'delete' | 'options'

/** A request; a plain value as far as handlers are concerned, and valid for as long as they like. */
export interface HttpRequest {
  /** Lower case; `head` on a GET route, whose reply then goes out without its body. */
  readonly method: string
  /** As sent, without the query. */
  readonly path: string
  /** By name from the route's pattern, percent-decoded. */
  readonly params: Record<string, string>
  /** As sent, without the question mark. */
  readonly query: string
  /** By lower-case name; '' when absent, the first one when repeated. */
  header(name: string): string
  /** Of the peer, which is the proxy where there is one; '' when first asked for after the connection is gone. */
  readonly remoteAddress: string
  /** Whether the connection is gone, so that nobody will read the reply. */
  readonly signal: { readonly aborted: boolean }
  /** The whole body. Rejects with too_large beyond the route's maxBody, and with bad_request when the client goes away. */
  body(): Promise<Buffer>
}

export interface HttpReply {
  status: number
  /** Names in lower case. The content-type of a text is application/json unless it is given here. */
  headers?: Record<string, string>
  body?: string | Buffer
}

export interface HttpRoute {
  method: HttpMethod
  /** `/api/:project/envelope/`; a path with and one without its last slash are two routes. */
  path: string
  /** Bytes; without it the route takes no body. */
  maxBody?: number
  handle(request: HttpRequest): HttpReply | Promise<HttpReply>
  /** The reply to an error of this route, instead of replyFromError. */
  onError?(error: unknown, request: HttpRequest): HttpReply
}

/** A socket as sessions see it. Once `closed` is true every method does nothing (and returns false or 0). */
export interface Peer<D> {
  readonly data: D
  readonly closed: boolean
  /** Sends one text frame. False when it was dropped, because of backpressure or because the peer is closed. */
  send(text: string | Buffer): boolean
  subscribe(topic: string): boolean
  unsubscribe(topic: string): boolean
  bufferedAmount(): number
  /** What `run` sends goes out in one write. */
  cork(run: () => void): void
  /** Close frame with code and reason (cut to 123 bytes); a peer whose buffer is full sees 1006 instead. */
  end(code: number, reason: string): void
  /** Closes at once, without a frame. */
  terminate(): void
}

/** What is thrown by a handler closes its socket with 1011, and is logged. */
export interface SocketRoute<D> {
  path: string
  /** Bytes; a longer message closes the socket, the client sees 1006. */
  maxPayload: number
  /** Bytes that may wait for one socket before messages are dropped; checked before a message is added. */
  maxBackpressure: number
  /** Seconds, 0 for never or 8 to 960; the peer is pinged in time. */
  idleTimeout: number
  /** Decides before 101. An AppError refuses with its HTTP status. `protocol` is the one accepted subprotocol. */
  upgrade(request: HttpRequest): Grant<D> | Promise<Grant<D>>
  open(peer: Peer<D>): void | Promise<void>
  /** `bytes` is a copy that may be kept. */
  message(peer: Peer<D>, bytes: Buffer, isBinary: boolean): void | Promise<void>
  /**
   * Messages for this peer were dropped because more than maxBackpressure was waiting. Called once a tick and peer, in a
   * later tick. `count` is at least 1 and only a lower bound: a burst of publishes that meets a full buffer counts once.
   */
  dropped?(peer: Peer<D>, count: number): void | Promise<void>
  /** Some of what was waiting has gone; a hint, ask bufferedAmount. */
  drain?(peer: Peer<D>): void | Promise<void>
  /** The last call for a peer; it is closed already. */
  close(peer: Peer<D>, code: number): void | Promise<void>
}

export interface Grant<D> {
  data: D
  protocol?: string
}

export interface HttpServer {
  http(route: HttpRoute): void
  socket<D>(route: SocketRoute<D>): void
  /** Resolves with the bound port, rejects when it cannot be had. Port 0 takes a free one below the outgoing range. */
  listen(host: string, port: number): Promise<number>
  /** One text frame to all subscribers of a topic; false when there is none. Says nothing about drops. */
  publish(topic: string, message: string | Buffer): boolean
  numSubscribers(topic: string): number
  /** No new connections; open sockets go on, and new requests on kept-alive connections are answered 503. */
  closeListener(): void
  /** Resolves when no handler runs and no reply is owed, also to clients that have gone away. */
  idle(): Promise<void>
  peers(): Iterable<Peer<unknown>>
  /** Closes everything that is left, without close frames. */
  close(): void
}

export interface HttpServerOptions {
  log: Log
  /** After each request; status 499 when the client went away first, 101 for an upgrade; '*' is the path of a 404. */
  onRequest?(method: string, routePath: string, status: number, seconds: number): void
}

const nativeMethods = {
  get: 'get',
  post: 'post',
  put: 'put',
  patch: 'patch',
  delete: 'del',
  options: 'options',
} as const satisfies Record<HttpMethod, keyof Native.TemplatedApp>

/** LIBUS_LISTEN_EXCLUSIVE_PORT: without it a second server on the same port succeeds and takes half of the connections. */
const exclusivePort = 1
/** Ports from 32768 up are also given to outgoing connections, so that listening on one fails now and then. */
const freePorts = { from: 10_240, below: 32_768, tries: 100 }

export function createHttpServer({ log, onRequest }: HttpServerOptions): HttpServer {
  const app = uws.App()
  const known = new Map<string, Set<string>>()
  const socketPaths = new Set<string>()
  const peers = new Set<Peer<unknown>>()
  const idlers: (() => void)[] = []
  let active = 0
  let listening: Native.us_listen_socket | undefined
  let closing = false
  let closed = false

  /** Runs `work` for a new exchange; the frame in which nothing may throw. */
  function begin(
    res: Native.HttpResponse,
    req: Native.HttpRequest,
    routePath: string,
    work: (exchange: Exchange) => void,
  ): void {
    const exchange = new Exchange(res, req, routePath, onRequest ? performance.now() : 0)
    active += 1
    try {
      if (closing) throw new AppError('shutting_down', 'The server is shutting down; try again.', { retryAfter: 1 })
      work(exchange)
    } catch (error) {
      finish(exchange, replyToError(exchange, error))
    }
  }

  function finish(exchange: Exchange, reply: HttpReply): void {
    let status = exchange.aborted ? 499 : reply.status
    try {
      exchange.reply(reply, closing)
    } catch (error) {
      log.error('http.reply_failed', { path: exchange.routePath, error })
      status = 500
    }
    done(exchange, status)
  }

  function done(exchange: Exchange, status: number): void {
    try {
      onRequest?.(exchange.method, exchange.routePath, status, (performance.now() - exchange.startedAt) / 1000)
    } catch (error) {
      log.error('http.on_request_failed', { error })
    }
    active -= 1
    if (active === 0) for (const resolve of idlers.splice(0)) resolve()
  }

  function replyToError(exchange: Exchange, error: unknown, onError?: HttpRoute['onError']): HttpReply {
    if (!(error instanceof AppError) || error.code === 'internal')
      log.error('http.handler_failed', { method: exchange.method, path: exchange.routePath, error })
    if (onError) {
      try {
        return onError(error, exchange)
      } catch (second) {
        log.error('http.on_error_failed', { method: exchange.method, path: exchange.routePath, error: second })
      }
    }
    return replyFromError(error)
  }

  function handle(exchange: Exchange, route: HttpRoute, names: string[], req: Native.HttpRequest): void {
    const failed = (error: unknown) => finish(exchange, replyToError(exchange, error, route.onError))
    let reply: HttpReply | Promise<HttpReply>
    try {
      exchange.params = paramsFromPath(req, names)
      exchange.collect(req, route.maxBody ?? 0)
      reply = route.handle(exchange)
    } catch (error) {
      failed(error)
      return
    }
    if (reply instanceof Promise) reply.then((value) => finish(exchange, value), failed)
    else finish(exchange, reply)
  }

  /** Runs a handler of a socket: what it throws or rejects with ends that socket alone. */
  function run(peer: Peer<unknown>, handler: string, call: () => void | Promise<void>): void {
    const failed = (error: unknown) => {
      log.error('socket.handler_failed', { handler, error })
      peer.end(1011, 'internal error')
    }
    try {
      const result = call()
      if (result instanceof Promise) result.catch(failed)
    } catch (error) {
      failed(error)
    }
  }

  function upgrade<D>(
    exchange: Exchange,
    route: SocketRoute<D>,
    names: string[],
    req: Native.HttpRequest,
    context: Native.us_socket_context_t,
  ): void {
    const key = req.getHeader('sec-websocket-key')
    // With `Connection: close` the native side closes the connection in the middle of upgrading it (a use after free).
    if (!/\bupgrade\b/i.test(req.getHeader('connection'))) throw needsHandshake()
    exchange.params = paramsFromPath(req, names)
    exchange.remoteAddress // The address is gone after an upgrade; asking for it keeps it.
    const complete = (grant: Grant<D>, later: boolean) => {
      if (exchange.aborted) return done(exchange, 499)
      const peer = new NativePeer(grant.data)
      exchange.upgrade(peer, key, grant.protocol ?? '', context, later)
      done(exchange, 101)
      peer.cork(() => run(peer, 'open', () => route.open(peer)))
    }
    const refuse = (error: unknown) => finish(exchange, replyToError(exchange, error))
    const guarded = (grant: Grant<D>) => {
      try {
        if (closing) throw new AppError('shutting_down', 'The server is shutting down; try again.', { retryAfter: 1 })
        complete(grant, true)
      } catch (error) {
        refuse(error)
      }
    }
    const grant = route.upgrade(exchange)
    if (grant instanceof Promise) grant.then((value) => void setImmediate(guarded, value), refuse)
    else complete(grant, false)
  }

  /** Counts drops of a route's peers and reports them in a later tick. */
  function createDropReport<D>(route: SocketRoute<D>): (peer: NativePeer<D>) => void {
    let marked: NativePeer<D>[] = []
    function report() {
      const peersOfTick = marked
      marked = []
      for (const peer of peersOfTick) {
        const count = peer.dropped
        peer.dropped = 0
        if (!peer.closed) run(peer, 'dropped', () => route.dropped?.(peer, count))
      }
    }
    return (peer) => {
      peer.dropped += 1
      if (peer.dropped > 1) return
      if (marked.push(peer) === 1) setImmediate(report)
    }
  }

  function bindFallbacks(): void {
    for (const [path, methods] of known) {
      const allow = [...methods].map((method) => method.toUpperCase()).join(', ')
      app.any(path, (res, req) =>
        begin(res, req, path, (exchange) => {
          if (exchange.method === 'get' && socketPaths.has(path)) throw needsHandshake()
          const error = new AppError('method_not_allowed', `This path takes ${allow}.`)
          finish(exchange, { ...replyFromError(error), headers: { allow } })
        }),
      )
    }
    app.any('/*', (res, req) =>
      begin(res, req, '*', (exchange) => {
        throw new AppError('not_found', `Nothing answers at ${exchange.path.slice(0, 200)}; check the path.`)
      }),
    )
  }

  function allow(path: string, ...methods: string[]): void {
    const set = known.get(path) ?? new Set()
    for (const method of methods) set.add(method)
    known.set(path, set)
  }

  return {
    http(route) {
      const names = namesFromPattern(route.path)
      const bound = (res: Native.HttpResponse, req: Native.HttpRequest) =>
        begin(res, req, route.path, (exchange) => handle(exchange, route, names, req))
      app[nativeMethods[route.method]](route.path, bound)
      allow(route.path, route.method)
      if (route.method !== 'get') return
      app.head(route.path, bound)
      allow(route.path, 'head')
    },

    socket<D>(route: SocketRoute<D>) {
      // The native side ends the process for other values.
      if (route.idleTimeout !== 0 && (route.idleTimeout < 8 || route.idleTimeout > 960))
        throw new Error(`idleTimeout of ${route.path} is ${route.idleTimeout}; it must be 0 or 8 to 960 seconds`)
      const names = namesFromPattern(route.path)
      const reportDrop = createDropReport(route)
      allow(route.path, 'get')
      socketPaths.add(route.path)
      app.ws<UserData<D>>(route.path, {
        maxPayloadLength: route.maxPayload,
        maxBackpressure: route.maxBackpressure,
        idleTimeout: route.idleTimeout,
        compression: uws.DISABLED,
        upgrade(res, req, context) {
          begin(res, req, route.path, (exchange) => upgrade(exchange, route, names, req, context))
        },
        // Only this here: the session opens after the cork of the upgrade, see the laws.
        open(ws) {
          const { peer } = ws.getUserData()
          peer.attach(ws)
          peers.add(peer)
        },
        message(ws, message, isBinary) {
          const { peer } = ws.getUserData()
          run(peer, 'message', () => route.message(peer, bytesFromNative(message), isBinary))
        },
        dropped(ws) {
          reportDrop(ws.getUserData().peer)
        },
        drain(ws) {
          const { peer } = ws.getUserData()
          run(peer, 'drain', () => route.drain?.(peer))
        },
        close(ws, code) {
          const { peer } = ws as unknown as UserData<D> // getUserData() of a closed socket throws
          peer.detach()
          peers.delete(peer)
          run(peer, 'close', () => route.close(peer, code))
        },
      })
    },

    async listen(host, port) {
      bindFallbacks()
      const random = () => freePorts.from + Math.floor(Math.random() * (freePorts.below - freePorts.from))
      const candidates = port === 0 ? Array.from({ length: freePorts.tries }, random) : [port]
      for (const candidate of candidates) {
        // The typings lack the form with both a host and options.
        const listen = app.listen.bind(app) as unknown as (
          host: string,
          port: number,
          options: number,
          done: (token: Native.us_listen_socket | false) => void,
        ) => void
        listen(host, candidate, exclusivePort, (token) => {
          if (token) listening = token
        })
        if (listening) return candidate
      }
      throw new Error(await reasonNotToListen(host, candidates.at(-1)!))
    },

    publish: (topic, message) => !closed && app.publish(topic, message, false, false),
    numSubscribers: (topic) => (closed ? 0 : app.numSubscribers(topic)),
    closeListener() {
      closing = true
      if (listening) uws.us_listen_socket_close(listening)
      listening = undefined
    },
    idle: () => (active === 0 ? Promise.resolve() : new Promise<void>((resolve) => void idlers.push(resolve))),
    peers: () => peers,
    close() {
      if (closed) return
      closing = true
      closed = true
      listening = undefined
      app.close()
    },
  }
}

/** One request and its response, from the native callback until the reply, the upgrade or the abort. */
class Exchange implements HttpRequest {
  readonly method: string
  readonly path: string
  readonly query: string
  readonly routePath: string
  readonly startedAt: number
  params: Record<string, string> = {}
  aborted = false
  /** Gone once nothing may be written any more. */
  #res: Native.HttpResponse | undefined
  /** Name, value, name, value: __proto__ is nothing special here. All are copied: 1 us more than a few chosen names. */
  readonly #headers: string[] = []
  #address: string | undefined
  #chunks: Buffer[] = []
  #size = 0
  #whole = true
  #failure: unknown
  #body: Promise<Buffer> | undefined
  #settle: { resolve(body: Buffer): void; reject(error: unknown): void } | undefined

  constructor(res: Native.HttpResponse, req: Native.HttpRequest, routePath: string, startedAt: number) {
    res.onAborted(() => this.#abort())
    this.#res = res
    this.routePath = routePath
    this.startedAt = startedAt
    this.method = req.getMethod()
    this.path = req.getUrl()
    this.query = req.getQuery() ?? ''
    req.forEach((name, value) => void this.#headers.push(name, value))
  }

  get signal(): { readonly aborted: boolean } {
    return this
  }

  get remoteAddress(): string {
    this.#address ??= this.#res && addressFromBytes(new Uint8Array(this.#res.getRemoteAddress()))
    return this.#address ?? ''
  }

  header(name: string): string {
    for (let i = 0; i < this.#headers.length; i += 2) if (this.#headers[i] === name) return this.#headers[i + 1]!
    return ''
  }

  /** Starts to gather the body at once: bytes that come before anybody listens would be lost. */
  collect(req: Native.HttpRequest, maxBody: number): void {
    const declared = req.getHeader('content-length')
    if (Number(declared) > maxBody) this.#fail(tooLarge(maxBody))
    else if (maxBody > 0) {
      this.#whole = false
      this.#res?.onData((chunk, isLast) => {
        try {
          this.#take(chunk, isLast, maxBody)
        } catch (error) {
          this.#fail(error) // No memory for the copy, say.
        }
      })
    } else if (req.getHeader('transfer-encoding') !== '') this.#fail(tooLarge(maxBody))
  }

  body(): Promise<Buffer> {
    this.#body ??= new Promise((resolve, reject) => {
      if (this.#failure) reject(this.#failure)
      else if (this.#whole) resolve(this.#bytes())
      else this.#settle = { resolve, reject }
    })
    // A handler that asked early and looks late (or never) is no reason for an unhandled rejection.
    if (this.#failure) this.#body.catch(() => {})
    return this.#body
  }

  reply(reply: HttpReply, last: boolean): void {
    this.#chunks = []
    this.#use((res) => res.cork(() => this.#write(res, reply, last)))
  }

  upgrade<D>(
    peer: NativePeer<D>,
    key: string,
    protocol: string,
    context: Native.us_socket_context_t,
    later: boolean,
  ): void {
    this.#use((res) => {
      const upgrade = () => res.upgrade<UserData<D>>({ peer }, key, protocol, '', context)
      if (later) res.cork(upgrade)
      else upgrade()
    })
  }

  /** The last use of the response. When it fails halfway nothing sensible can follow, so the connection ends. */
  #use(use: (res: Native.HttpResponse) => void): void {
    const res = this.#res
    if (!res) return
    this.#res = undefined
    try {
      use(res)
    } catch (error) {
      closeIfOpen(res)
      throw error
    }
  }

  #write(res: Native.HttpResponse, { status, headers = {}, body = '' }: HttpReply, last: boolean): void {
    res.writeStatus(statusLines.get(status) ?? `${status} Unknown`)
    if (typeof body === 'string' && body !== '' && headers['content-type'] === undefined)
      res.writeHeader('content-type', 'application/json')
    for (const name in headers) res.writeHeader(name, oneLine(headers[name]!))
    // Said, but not forced: a forced close resets the connection when some of a body is unread, and the reply with it.
    if (last) res.writeHeader('connection', 'close')
    if (status === 204 || status === 304) res.endWithoutBody()
    else if (this.method === 'head') res.endWithoutBody(Buffer.byteLength(body))
    else res.end(body)
  }

  #take(chunk: ArrayBuffer, isLast: boolean, maxBody: number): void {
    if (this.#whole || this.#failure || !this.#res) return
    this.#size += chunk.byteLength
    if (this.#size > maxBody) {
      this.#fail(tooLarge(maxBody))
      return
    }
    if (chunk.byteLength > 0) this.#chunks.push(bytesFromNative(chunk))
    if (!isLast) return
    this.#whole = true
    this.#settle?.resolve(this.#bytes())
  }

  #bytes(): Buffer {
    const chunks = this.#chunks
    this.#chunks = []
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
  }

  #fail(error: unknown): void {
    this.#failure = error
    this.#chunks = []
    this.#body?.catch(() => {})
    this.#settle?.reject(error)
  }

  #abort(): void {
    this.#res = undefined
    this.aborted = true
    if (!this.#whole) this.#fail(new AppError('bad_request', 'The connection was closed before the body was complete.'))
  }
}

interface UserData<D> {
  peer: NativePeer<D>
}

class NativePeer<D> implements Peer<D> {
  readonly data: D
  /** Drops that are not reported yet. */
  dropped = 0
  #ws: Native.WebSocket<UserData<D>> | undefined

  constructor(data: D) {
    this.data = data
  }

  attach(ws: Native.WebSocket<UserData<D>>): void {
    this.#ws = ws
  }

  detach(): void {
    this.#ws = undefined
  }

  get closed(): boolean {
    return this.#ws === undefined
  }

  send(text: string | Buffer): boolean {
    // 1 is sent, 0 is buffered and will be sent, 2 is dropped.
    return this.#ws !== undefined && this.#ws.send(text, false, false) !== 2
  }

  subscribe(topic: string): boolean {
    return this.#ws?.subscribe(topic) ?? false
  }

  unsubscribe(topic: string): boolean {
    return this.#ws?.unsubscribe(topic) ?? false
  }

  bufferedAmount(): number {
    return this.#ws?.getBufferedAmount() ?? 0
  }

  cork(run: () => void): void {
    this.#ws?.cork(run)
  }

  end(code: number, reason: string): void {
    this.#ws?.end(code, cut(reason, 123))
  }

  terminate(): void {
    this.#ws?.close()
  }
}

/** The reply to any error: an AppError as it says, anything else as `internal`, without detail. */
export function replyFromError(error: unknown): HttpReply {
  if (!(error instanceof AppError)) return replyFromError(new AppError('internal', 'Something failed in the server.'))
  const { code, message, details, retryAfter, status } = error
  return {
    status,
    headers: retryAfter === undefined ? {} : { 'retry-after': String(Math.ceil(retryAfter)) },
    body: JSON.stringify({ error: details.length > 0 ? { code, message, details } : { code, message } }),
  }
}

const statusLines = new Map(Object.entries(STATUS_CODES).map(([code, text]) => [Number(code), `${code} ${text}`]))

function closeIfOpen(res: Native.HttpResponse): void {
  try {
    res.close()
  } catch {
    // It was answered in full or is gone: then there is nothing to close.
  }
}

function tooLarge(maxBody: number): AppError {
  return new AppError(
    'too_large',
    maxBody === 0
      ? 'This path takes no body; send none.'
      : `The body is larger than ${maxBody} bytes; send less at once.`,
  )
}

function needsHandshake(): AppError {
  return new AppError('bad_request', 'This path is a WebSocket; connect with a WebSocket client.')
}

function namesFromPattern(pattern: string): string[] {
  return [...pattern.matchAll(/:([^/]+)/g)].map((match) => match[1]!)
}

function paramsFromPath(req: Native.HttpRequest, names: string[]): Record<string, string> {
  const params: Record<string, string> = {}
  for (let i = 0; i < names.length; i += 1) {
    const raw = req.getParameter(i)
    try {
      params[names[i]!] = raw.includes('%') ? decodeURIComponent(raw) : raw
    } catch {
      throw new AppError('bad_request', `"${names[i]}" in the path is not valid percent-encoding of UTF-8.`)
    }
  }
  return params
}

/** A copy: what uWebSockets.js hands over is detached when the callback returns. */
function bytesFromNative(bytes: ArrayBuffer): Buffer {
  const copy = Buffer.allocUnsafe(bytes.byteLength)
  copy.set(new Uint8Array(bytes))
  return copy
}

/** 4 or 16 bytes; an IPv4 client of a socket that listens on both is written as IPv4. */
function addressFromBytes(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  if (bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255)
    return bytes.subarray(12).join('.')
  const groups = Array.from({ length: bytes.length / 2 }, (_, i) =>
    ((bytes[2 * i]! << 8) | bytes[2 * i + 1]!).toString(16),
  )
  return groups.join(':')
}

/** A line break in a value would start another header. */
function oneLine(value: string): string {
  return /[\r\n\0]/.test(value) ? value.replace(/[\r\n\0]+/g, ' ') : value
}

function cut(text: string, maxBytes: number): string {
  if (text.length * 3 <= maxBytes) return text
  let length = Math.min(text.length, maxBytes)
  while (Buffer.byteLength(text.slice(0, length)) > maxBytes) length -= 1
  return text.slice(0, length)
}

/** uWebSockets.js only says that it failed; Node says why. */
async function reasonNotToListen(host: string, port: number): Promise<string> {
  const code = await new Promise<string>((resolve) => {
    const probe = createServer()
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve('')))
  })
  if (code === 'EADDRINUSE') return `Port ${port} on ${host} is taken: stop what listens there, or choose another port.`
  if (code === 'EACCES') return `Port ${port} on ${host} needs more rights: choose one above 1023.`
  return `Cannot listen on port ${port} of ${host}${code && ` (${code})`}: choose another host or port.`
}
