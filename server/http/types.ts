// What the rest of the server knows of HTTP and WebSocket: plain values and a few functions. uws.ts implements it.

import type { Log } from '../log.ts'

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
  /**
   * The body piece by piece, instead of body(); resolves with the last one, and rejects likewise. What `take` throws ends
   * the reading. The pieces are copies.
   */
  read(take: (chunk: Buffer) => void): Promise<void>
  /** So many bytes more are in memory for this request, until it is answered. Throws unavailable beyond the server's budget. */
  hold(bytes: number): void
}

export interface HttpReply {
  status: number
  /** Names in lower case. The content-type of a text is application/json unless it is given here. */
  headers?: Record<string, string>
  /** `Set-Cookie` values, each a header of its own. */
  cookies?: string[]
  body?: string | Buffer
}

export interface HttpRoute {
  method: HttpMethod
  /** `/api/:project/envelope/`; a path with and one without its last slash are two routes. Also the name in metrics. */
  path: string
  /** The parameters of any other path that this route answers too, at which no route stands; null for those of others. */
  also?(path: string): Record<string, string> | null
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
  /** Bytes of bodies in memory, of all requests together. */
  maxHeld?: number
  /** After each request; status 499 when the client went away first, 101 for an upgrade; '*' is the path of a 404. */
  onRequest?(method: string, routePath: string, status: number, seconds: number): void
}
