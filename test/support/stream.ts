// A stream client that keeps everything it was sent, so that a test may ask after the act for what came before.

import { WebSocket } from 'ws'
import type { ServerMessage } from '../../server/protocol.ts'
import type { Scope } from './scope.ts'

export interface StreamOptions {
  level?: string[]
  environment?: string[]
  since?: string
  /** Stories count events, so they are shown all unless they say otherwise. */
  sample?: boolean
}

type OfType<T extends ServerMessage['type']> = Extract<ServerMessage, { type: T }>

export interface StreamClient {
  socket: WebSocket
  /** Everything received, in order. */
  received: ServerMessage[]
  /** The next message of this type (and shape) that no earlier call took; messages before it are passed over. */
  next<T extends ServerMessage['type']>(type: T, accept?: (message: OfType<T>) => boolean): Promise<OfType<T>>
  ofType<T extends ServerMessage['type']>(type: T): OfType<T>[]
  send(message: unknown): void
  /** The newest cursor. */
  cursor(): string
  closed: Promise<{ code: number; reason: string }>
}

const patience = 15_000

export function openStream(t: Scope, url: string, token: string, options: StreamOptions = {}): StreamClient {
  const query = new URLSearchParams()
  for (const level of options.level ?? []) query.append('level', level)
  for (const environment of options.environment ?? []) query.append('environment', environment)
  if (options.since) query.append('since', options.since)
  query.append('sample', String(options.sample ?? false))
  const address = query.size > 0 ? `${url}?${query}` : url
  const socket = new WebSocket(address, { headers: { authorization: `Bearer ${token}` } })
  const received: ServerMessage[] = []
  let wake = () => {}
  let at = 0
  socket.on('message', (data) => {
    received.push(JSON.parse(String(data)) as ServerMessage)
    wake()
  })
  let failure = ''
  socket.on('error', (error) => {
    failure = `: ${error.message}`
  })
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.on('close', (code, reason) => {
      failure ||= `, with ${code} ${reason}`
      resolve({ code, reason: String(reason) })
      wake()
    })
  })
  t.after(() => socket.terminate())

  const ofType = <T extends ServerMessage['type']>(type: T) =>
    received.filter((message): message is OfType<T> => message.type === type)

  return {
    socket,
    received,
    ofType,
    async next(type, accept = () => true) {
      const end = performance.now() + patience
      for (;;) {
        while (at < received.length) {
          const message = received[at++]!
          if (message.type === type && accept(message as OfType<typeof type>)) return message as OfType<typeof type>
        }
        if (socket.readyState >= WebSocket.CLOSING) throw new Error(`closed while waiting for ${type}${failure}`)
        if (performance.now() > end) {
          throw new Error(`no ${type} came; received: ${received.map((message) => message.type).join(' ')}`)
        }
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, 1_000)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    },
    send: (message) => socket.send(JSON.stringify(message)),
    cursor: () => received.findLast((message) => 'cursor' in message)?.cursor ?? '',
    closed,
  }
}
