// A stream on the command line, by the rules of server/protocol.ts: comes back with its cursor after every unexpected close,
// reads from the cursor of a `gap`, drops what came twice, and takes 45 seconds of silence for a dead connection.

import { WebSocket } from 'ws'
import { AppError, type ErrorCode } from '../errors.ts'
import type { ServerMessage } from '../protocol.ts'
import type { ServerFacts } from './facts.ts'

export interface Follow {
  server: ServerFacts
  /** Id or slug. */
  project: string
  level: string[]
  environment: string[]
  since?: string | undefined
  signal: AbortSignal
  /** Not those that came twice. */
  onMessage(message: ServerMessage): void
  /** The connection was lost or refused for now; it comes back after so many milliseconds. */
  onLost(reason: string, wait: number): void
}

const silence = 45_000
const mostWait = 30_000
const mostIds = 20_000

/** Resolves with the last cursor when the signal is aborted; rejects when coming back is of no use. */
export async function follow(options: Follow): Promise<string> {
  const state = { cursor: options.since ?? '', seen: new Set<string>(), attempts: 0 }
  while (!options.signal.aborted) {
    const reason = await connection(options, state)
    if (options.signal.aborted) break
    const wait = Math.min(mostWait, 250 * 2 ** state.attempts++) * (0.5 + Math.random() / 2)
    options.onLost(reason, Math.round(wait))
    await pause(wait, options.signal)
  }
  return state.cursor
}

interface State {
  cursor: string
  seen: Set<string>
  attempts: number
}

/** One connection, until it ends. */
function connection({ server, project, level, environment, signal, onMessage }: Follow, state: State): Promise<string> {
  const query = new URLSearchParams()
  for (const one of level) query.append('level', one)
  for (const one of environment) query.append('environment', one)
  if (state.cursor !== '') query.append('since', state.cursor)
  const url = `${server.url.replace(/^http/, 'ws')}/stream/projects/${encodeURIComponent(project)}?${query}`
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, {
      headers: { authorization: `Bearer ${server.token}` },
      handshakeTimeout: 10_000,
    })
    let alive = setTimeout(() => socket.terminate(), silence)
    let gap = false
    const stop = () => socket.terminate()
    signal.addEventListener('abort', stop)

    socket.on('message', (data) => {
      clearTimeout(alive)
      alive = setTimeout(() => socket.terminate(), silence)
      // What follows a gap on this connection is later than what is missing.
      if (gap) return
      const message = JSON.parse(String(data)) as ServerMessage
      if (message.type === 'subscribed') state.attempts = 0
      if ('cursor' in message) state.cursor = message.cursor
      if (message.type === 'gap') {
        gap = true
        socket.terminate()
      } else if (isNew(message, state.seen)) onMessage(message)
    })
    socket.on('unexpected-response', (_request, response) => {
      const { statusCode = 0 } = response
      response.resume()
      socket.terminate()
      const final = refusals.get(statusCode)
      if (final) reject(new AppError(final.code, final.message))
    })
    let reason = 'the connection was closed'
    socket.on('error', (error) => {
      reason = error.message || (error as NodeJS.ErrnoException).code || reason
    })
    socket.on('close', (code) => {
      clearTimeout(alive)
      signal.removeEventListener('abort', stop)
      if (code === 4401) reject(new AppError('unauthenticated', 'The token was revoked or has expired.'))
      else resolve(gap ? 'messages were missed; reading them now' : reason)
    })
  })
}

const refusals = new Map<number, { code: ErrorCode; message: string }>([
  [400, { code: 'bad_request', message: 'The server does not take these filters: check --level and --environment.' }],
  [401, { code: 'unauthenticated', message: 'The server does not know this token, or it was revoked.' }],
  [403, { code: 'forbidden', message: 'This token may not follow this project.' }],
  [404, { code: 'not_found', message: 'There is no such project, or this token may not see it.' }],
])

function isNew(message: ServerMessage, seen: Set<string>): boolean {
  if (message.type !== 'event') return true
  if (seen.has(message.data.id)) return false
  seen.add(message.data.id)
  // A Set keeps the order of insertion: the oldest goes.
  if (seen.size > mostIds) seen.delete(seen.values().next().value!)
  return true
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, milliseconds)
    signal.addEventListener('abort', done)
  })
}
