// A WebSocket handshake as raw HTTP: status, headers and body of the answer, which WebSocket clients keep to themselves.

import { randomBytes } from 'node:crypto'
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http'

export interface HandshakeAnswer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

/** The socket of a handshake that succeeds is ended at once. */
export function handshake(url: string, headers: OutgoingHttpHeaders = {}): Promise<HandshakeAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, {
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': randomBytes(16).toString('base64'),
        ...headers,
      },
    })
    sent.on('error', reject)
    sent.on('upgrade', (answer, socket) => {
      socket.destroy()
      resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: '' })
    })
    sent.on('response', (answer) => {
      let body = ''
      answer.setEncoding('utf8')
      answer.on('data', (text: string) => {
        body += text
      })
      answer.on('error', reject)
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body }))
    })
    sent.end()
  })
}
