// The only place that touches native request, response and socket objects (with exchange.ts and peer.ts). The laws it keeps, so that nobody else needs
// to know them (breaking one ends the process, corrupts memory or loses data; measured, or as the issues named here say):
// - `onAborted` is the first call on a response; after abort, end or upgrade nothing touches the response again.
// - The native request is dead when the callback returns, and chunks and messages are detached: everything is copied first.
// - No exception and no rejection leaves a native callback: that is SIGABRT, which no handler of Node's can catch.
// - Every reply is one cork, status first. After an early reply the rest of a body is read and ignored by uWebSockets.js,
//   which closes the connection when that takes more than 10 s; within them the connection stays usable (keep-alive).
// - Bodies slower than 16 KB/s, and connections idle for 10 s, are closed by uWebSockets.js itself (seen after 12 s): the
//   handler sees an abort. A handler may take as long as it likes once the body is there.
// - A header name with an underscore or a dot is never parsed by this version: such a request ends unanswered after 10 s.
// - A request line that comes in two pieces is answered 505 by this version: what is long belongs in a body or a message.
// - Requests whose end could be read in two ways are refused and end their connection (exchange.ts, isMisframed). Chunk
//   extensions and trailers are not understood by this version: the connection ends, at the latest after 10 s.
// - A second request on a connection whose first is not answered yet (pipelining) closes that connection.
// - An upgrade that was decided later runs in its own turn of the event loop: inside another socket's callback the parser
//   would take the new WebSocket for that socket's. And it runs under the cork of another socket, see donor.ts.
// - Only the chosen subprotocol is passed on, never the client's header: uWebSockets.js echoes it, with the token in it.
// - `dropped` marks and acts later: closing or unsubscribing inside it corrupts the native topic tree.
// - A socket is dead after its close handler, so sessions only hold a Peer, whose methods are no-ops from then on.

import type * as Native from 'uWebSockets.js'
import { createServer } from 'node:net'
import { AppError } from '../errors.ts'
import { createBudget } from './budget.ts'
import { type CorkDonor, createCorkDonor } from './donor.ts'
import { bytesFromNative, Exchange } from './exchange.ts'
import { NativePeer, type UserData } from './peer.ts'
import type {
  Grant,
  HttpMethod,
  HttpReply,
  HttpRoute,
  HttpServer,
  HttpServerOptions,
  Peer,
  SocketRoute,
} from './types.ts'

// The native default of 4 KB refuses ordinary cookies and proxies' headers. It is read once, when the module loads.
process.env.UWS_HTTP_MAX_HEADERS_SIZE ??= '16384'
const { default: uws } = await import('uWebSockets.js')

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

/** 12 of the largest bodies, or 4,000 of 64 KiB. */
const maxHeldBytes = 256 * 1024 * 1024

export function createHttpServer({ log, maxHeld = maxHeldBytes, onRequest }: HttpServerOptions): HttpServer {
  const app = uws.App()
  const budget = createBudget(maxHeld)
  const known = new Map<string, Set<string>>()
  const socketPaths = new Set<string>()
  const peers = new Set<Peer<unknown>>()
  const idlers: (() => void)[] = []
  /** Routes that answer at other paths too. */
  const elsewhere = new Map<string, HttpRoute[]>()
  let active = 0
  let listening: Native.us_listen_socket | undefined
  let closing = false
  let closed = false
  let donor: CorkDonor | undefined

  /** Runs `work` for a new exchange; the frame in which nothing may throw. */
  function begin(
    res: Native.HttpResponse,
    req: Native.HttpRequest,
    routePath: string,
    work: (exchange: Exchange) => void,
    onError?: HttpRoute['onError'],
  ): void {
    const exchange = new Exchange(res, req, routePath, onRequest ? performance.now() : 0, budget)
    active += 1
    // Later, because then the native side closes the connection if anything came behind this request.
    if (exchange.misframed) return void setImmediate(finish, exchange, replyFromError(misframed()))
    try {
      if (closing) throw new AppError('shutting_down', 'The server is shutting down; try again.', { retryAfter: 1 })
      work(exchange)
    } catch (error) {
      finish(exchange, replyToError(exchange, error, onError))
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
    exchange.release()
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

  function fail(exchange: Exchange, route: HttpRoute, error: unknown): void {
    finish(exchange, replyToError(exchange, error, route.onError))
  }

  function handle(
    exchange: Exchange,
    route: HttpRoute,
    params: (req: Native.HttpRequest) => Record<string, string>,
    req: Native.HttpRequest,
  ): void {
    let reply: HttpReply | Promise<HttpReply>
    try {
      exchange.params = params(req)
      exchange.collect(req, route.maxBody ?? 0)
      reply = route.handle(exchange)
    } catch (error) {
      fail(exchange, route, error)
      return
    }
    if (!(reply instanceof Promise)) {
      finish(exchange, reply)
      return
    }
    reply.then(
      (value) => finish(exchange, value),
      (error) => fail(exchange, route, error),
    )
  }

  /** Runs a handler of a socket: what it throws or rejects with ends that socket alone. */
  function run(peer: Peer<unknown>, handler: string, call: () => void | Promise<void>): void {
    try {
      const result = call()
      if (result instanceof Promise) result.catch((error) => handlerFailed(peer, handler, error))
    } catch (error) {
      handlerFailed(peer, handler, error)
    }
  }

  function handlerFailed(peer: Peer<unknown>, handler: string, error: unknown): void {
    log.error('socket.handler_failed', { handler, error })
    peer.end(1011, 'internal error')
  }

  function upgrade<D>(
    exchange: Exchange,
    route: SocketRoute<D>,
    names: string[],
    req: Native.HttpRequest,
    context: Native.us_socket_context_t,
  ): void {
    const key = req.getHeader('sec-websocket-key')
    if (!isHandshake(req)) throw needsHandshake()
    exchange.params = paramsFromPath(req, names)
    exchange.remoteAddress // The address is gone after an upgrade; asking for it keeps it.
    const complete = (grant: Grant<D>, later: boolean) => {
      if (exchange.aborted) return done(exchange, 499)
      const peer = new NativePeer(grant.data)
      exchange.upgrade(peer, key, grant.protocol ?? '', context, later ? donor : undefined)
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
    app.any('/*', (res, req) => {
      const path = req.getUrl()
      for (const route of elsewhere.get(req.getMethod()) ?? []) {
        const params = route.also?.(path) ?? null
        if (params === null) continue
        return begin(res, req, route.path, (exchange) => handle(exchange, route, () => params, req), route.onError)
      }
      begin(res, req, '*', (exchange) => {
        throw new AppError('not_found', `Nothing answers at ${exchange.path.slice(0, 200)}; check the path.`)
      })
    })
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
        begin(
          res,
          req,
          route.path,
          (exchange) => handle(exchange, route, (native) => paramsFromPath(native, names), req),
          route.onError,
        )
      app[nativeMethods[route.method]](route.path, bound)
      allow(route.path, route.method)
      if (route.also) elsewhere.set(route.method, [...(elsewhere.get(route.method) ?? []), route])
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
        if (!listening) continue
        donor = await createCorkDonor(uws)
        return candidate
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
      donor?.close()
    },
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

function needsHandshake(): AppError {
  return new AppError('bad_request', 'This path is a WebSocket; connect with a WebSocket client.')
}

/** The native side looks at the key alone. */
function isHandshake(req: Native.HttpRequest): boolean {
  return (
    // With `Connection: close` it closes the connection in the middle of upgrading it (a use after free).
    /\bupgrade\b/i.test(req.getHeader('connection')) &&
    req.getHeader('upgrade').toLowerCase() === 'websocket' &&
    req.getHeader('sec-websocket-version') === '13' &&
    // The bytes of a body would be read as frames.
    /^0*$/.test(req.getHeader('content-length')) &&
    req.getHeader('transfer-encoding') === ''
  )
}

function misframed(): AppError {
  return new AppError('bad_request', 'The length of the body is ambiguous: send one Content-Length, or chunks.')
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
