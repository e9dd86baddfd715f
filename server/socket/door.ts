// Who may open a stream socket, and what each open one is: the upgrade, the limits, the ends.

import type { Access, Project } from '../access/tokens.ts'
import { AppError } from '../errors.ts'
import type { HttpRequest, SocketRoute } from '../http/types.ts'
import { closeCodes, Filters, maxBufferedBytes } from '../protocol.ts'
import { type StreamDeps, StreamSession, type StreamStart } from './stream.ts'

export interface StreamSocket {
  route: SocketRoute<Opened>
  /** The token was revoked. */
  closeToken(tokenId: string): void
  tokens(): string[]
  /** Closes every socket with 1001. */
  shutDown(): void
  size(): number
}

/** `start` until the socket is open, `session` from then on. */
interface Opened {
  start: (StreamStart & { token: string }) | null
  session: StreamSession | null
}

export interface StreamSocketDeps extends StreamDeps {
  authenticate(token: string): Promise<Access>
  project(access: Access, idOrSlug: string): Promise<Project>
  /** Sockets of one token; more are closed with 4429. */
  mostPerToken?: number
}

const subprotocol = 'mesher.v1'
/** What most ask for, once. */
const everything: Filters = { level: [], environment: [] }

export function streamSocket(deps: StreamSocketDeps): StreamSocket {
  const mostPerToken = deps.mostPerToken ?? 20_000
  const sessions = new Map<string, Set<StreamSession>>()
  let stopping = false

  function add(session: StreamSession): boolean {
    const ofToken = sessions.get(session.token_id) ?? new Set()
    sessions.set(session.token_id, ofToken)
    if (ofToken.size >= mostPerToken) return false
    ofToken.add(session)
    return true
  }

  function remove(session: StreamSession) {
    const ofToken = sessions.get(session.token_id)
    ofToken?.delete(session)
    if (ofToken?.size === 0) sessions.delete(session.token_id)
  }

  /** The token may have been revoked between the look-up and here, when closeToken could not see this socket yet. */
  async function recheck(session: StreamSession, token: string) {
    try {
      await deps.authenticate(token)
    } catch (error) {
      if (error instanceof AppError && error.code === 'unauthenticated') revoked(session)
    }
  }

  const revoked = (session: StreamSession) => session.end(closeCodes.unauthenticated, 'this token was revoked')

  const route: SocketRoute<Opened> = {
    path: '/stream/projects/:project',
    maxPayload: 16 * 1024,
    maxBackpressure: maxBufferedBytes,
    idleTimeout: 60,
    async upgrade(request) {
      if (stopping) throw new AppError('shutting_down', 'This server is stopping: come back', { retryAfter: 1 })
      const { token, protocol } = credentials(request)
      const { filters, sample, since } = firstSubscription(request.query)
      const access = await deps.authenticate(token)
      const project = await deps.project(access, request.params.project ?? '')
      return {
        data: {
          start: { token, token_id: access.token_id, project_id: project.id, filters, sample, since },
          session: null,
        },
        ...(protocol ? { protocol } : {}),
      }
    },
    open(peer) {
      if (stopping) return peer.end(closeCodes.shutting_down, 'shutting down: come back')
      const { start } = peer.data
      if (!start) return
      const session = new StreamSession(peer, start, deps)
      peer.data.session = session
      // What it began with is not kept for as long as it is open.
      peer.data.start = null
      if (!add(session)) return peer.end(closeCodes.rate_limited, 'too many sockets for this token')
      return recheck(session, start.token)
    },
    message(peer, bytes, isBinary) {
      peer.data.session?.message(bytes, isBinary)
    },
    dropped: (peer) => peer.data.session?.dropped(),
    drain: (peer) => peer.data.session?.drain(),
    close(peer) {
      const { session } = peer.data
      if (!session) return
      session.closed()
      remove(session)
    },
  }

  function endAll(which: Iterable<StreamSession>, code: number, reason: string) {
    for (const session of [...which]) session.end(code, reason)
  }

  return {
    route,
    closeToken(tokenId) {
      for (const session of [...(sessions.get(tokenId) ?? [])]) revoked(session)
    },
    tokens: () => [...sessions.keys()],
    shutDown() {
      stopping = true
      for (const ofToken of [...sessions.values()])
        endAll(ofToken, closeCodes.shutting_down, 'shutting down: come back')
    },
    size() {
      let count = 0
      for (const ofToken of sessions.values()) count += ofToken.size
      return count
    },
  }
}

/** `Authorization: Bearer <token>`, or for browsers the subprotocols `mesher.v1, bearer.<token>`. */
function credentials(request: HttpRequest): { token: string; protocol: string | null } {
  const offered = request
    .header('sec-websocket-protocol')
    .split(',')
    .map((name) => name.trim())
  // Only the protocol's own name is accepted, never the client's header: uWebSockets.js would echo the token.
  const protocol = offered.includes(subprotocol) ? subprotocol : null
  const bearer = /^Bearer +(\S+)$/i.exec(request.header('authorization'))?.[1]
  const inProtocol = protocol && offered.find((name) => name.startsWith('bearer.'))?.slice('bearer.'.length)
  return { token: bearer ?? inProtocol ?? '', protocol }
}

function firstSubscription(query: string): { filters: Filters; sample: boolean; since: string | null } {
  const search = new URLSearchParams(query)
  const parsed = Filters.safeParse({
    level: search.getAll('level'),
    environment: search.getAll('environment'),
  })
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw new AppError('bad_request', `${issue.path.join('.')}: ${issue.message}`)
  }
  const since = search.get('since')
  const sample = search.get('sample') ?? 'true'
  if (sample !== 'true' && sample !== 'false') {
    throw new AppError('bad_request', 'sample is true or false')
  }
  const { level = [], environment = [] } = parsed.data
  const filters = level.length + environment.length === 0 ? everything : { level, environment }
  return { filters, sample: sample === 'true', since }
}
