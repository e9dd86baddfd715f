// Who may open a stream socket, and what each open one is: the upgrade, the limits, the ends.

import type { Access } from '../access/access.ts'
import type { Project } from '../access/targets.ts'
import { AppError } from '../errors.ts'
import type { HttpRequest, SocketRoute } from '../http/types.ts'
import { closeCodes, Filters, maxBufferedBytes } from '../protocol.ts'
import { type StreamDeps, StreamSession, type StreamStart } from './stream.ts'

export interface StreamSocket {
  route: SocketRoute<Opened>
  /** The credential may not follow this project any more. */
  closeFollower(follower: Follower): void
  followers(): Follower[]
  /** Closes every socket with 1001. */
  shutDown(): void
  size(): number
}

export interface Follower {
  /** `token:12` or `session:34`. */
  credential: string
  project_id: string
}

/** `start` until the socket is open, `session` from then on. */
interface Opened {
  /** With what it was opened with, to ask again. */
  start: (StreamStart & { secret: string }) | null
  session: StreamSession | null
}

export interface StreamSocketDeps extends StreamDeps {
  /** By an API token or the text of a session cookie. */
  authenticate(secret: string): Promise<Access>
  /** The text of the session cookie, '' when there is none. Throws forbidden when a page of another origin sends it. */
  sessionCookie(request: HttpRequest): string
  project(access: Access, idOrSlug: string): Promise<Project>
  /** Sockets of one token or session; more are closed with 4429. */
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
    const ofCredential = sessions.get(session.credential) ?? new Set()
    sessions.set(session.credential, ofCredential)
    if (ofCredential.size >= mostPerToken) return false
    ofCredential.add(session)
    return true
  }

  function remove(session: StreamSession) {
    const ofCredential = sessions.get(session.credential)
    ofCredential?.delete(session)
    if (ofCredential?.size === 0) sessions.delete(session.credential)
  }

  /** It may have been revoked between the look-up and here, when closeFollower could not see this socket yet. */
  async function recheck(session: StreamSession, secret: string) {
    try {
      await deps.project(await deps.authenticate(secret), session.project_id)
    } catch (error) {
      if (error instanceof AppError && (error.code === 'unauthenticated' || error.code === 'not_found'))
        revoked(session)
    }
  }

  const revoked = (session: StreamSession) =>
    session.end(closeCodes.unauthenticated, 'this token or session may not follow this project any more')

  const route: SocketRoute<Opened> = {
    path: '/stream/projects/:project',
    maxPayload: 16 * 1024,
    maxBackpressure: maxBufferedBytes,
    idleTimeout: 60,
    async upgrade(request) {
      if (stopping) throw new AppError('shutting_down', 'This server is stopping: come back', { retryAfter: 1 })
      const { token, protocol } = credentials(request)
      const secret = token || deps.sessionCookie(request)
      const { filters, sample, since } = firstSubscription(request.query)
      const access = await deps.authenticate(secret)
      const project = await deps.project(access, request.params.project ?? '')
      return {
        data: {
          start: { secret, credential: access.credential, project_id: project.id, filters, sample, since },
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
      if (!add(session)) return peer.end(closeCodes.rate_limited, 'too many sockets for this token or session')
      return recheck(session, start.secret)
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
    closeFollower({ credential, project_id }) {
      for (const session of [...(sessions.get(credential) ?? [])])
        if (session.project_id === project_id) revoked(session)
    },
    followers() {
      const found: Follower[] = []
      for (const [credential, ofCredential] of sessions) {
        const projects = new Set([...ofCredential].map((session) => session.project_id))
        for (const project_id of projects) found.push({ credential, project_id })
      }
      return found
    },
    shutDown() {
      stopping = true
      for (const ofCredential of [...sessions.values()])
        endAll(ofCredential, closeCodes.shutting_down, 'shutting down: come back')
    },
    size() {
      let count = 0
      for (const ofCredential of sessions.values()) count += ofCredential.size
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
