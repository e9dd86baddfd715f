// WebSocket frames (RFC 6455, section 5.2) without a library: a client that counts them for next to nothing. What a client
// sends has to be masked; a mask of zeros leaves the payload as it is, so that a frame can be made once and sent often.

import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

export function textFrame(payload: Buffer): Buffer {
  if (payload.length < 126 || payload.length > 0xffff) throw new Error('only frames of 126 to 65,535 bytes')
  const head = Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 0xff, 0, 0, 0, 0])
  return Buffer.concat([head, payload])
}

export const textFrameHead = 8

/** The frames of a server, one stream after the other: calls back with where the payload lies in a chunk. */
export function createFrameReader(onFrame: (opcode: number, chunk: Buffer, from: number, to: number) => void) {
  let rest: Buffer | null = null
  return (given: Buffer): void => {
    const chunk = rest ? Buffer.concat([rest, given]) : given
    let at = 0
    for (;;) {
      const end = endOfFrame(chunk, at)
      if (end < 0 || end > chunk.length) break
      const short = chunk[at + 1]! & 0x7f
      onFrame(chunk[at]! & 0x0f, chunk, at + (short < 126 ? 2 : short === 126 ? 4 : 10), end)
      at = end
    }
    // A copy: what lies behind the chunk is used for the next one.
    rest = at < chunk.length ? Buffer.from(chunk.subarray(at)) : null
  }
}

export const opcodes = { text: 1, close: 8, ping: 9 }

/** -1 while not even its length is there. */
function endOfFrame(chunk: Buffer, at: number): number {
  if (chunk.length - at < 2) return -1
  const short = chunk[at + 1]! & 0x7f
  if (short < 126) return at + 2 + short
  if (short === 126) return chunk.length - at < 4 ? -1 : at + 4 + chunk.readUInt16BE(at + 2)
  return chunk.length - at < 10 ? -1 : at + 10 + Number(chunk.readBigUInt64BE(at + 2))
}

/** Resolves with a socket past its handshake. `onData` gets the bytes that follow; its buffer is used again at once. */
export function openWebSocket(
  url: string,
  headers: Record<string, string>,
  buffer: Buffer,
  onData: (chunk: Buffer) => void,
): Promise<Socket> {
  const { hostname, port, pathname, search } = new URL(url)
  return new Promise((resolve, reject) => {
    let handshake = ''
    let open = false
    const socket = connect({
      port: Number(port),
      host: hostname,
      noDelay: true,
      onread: {
        buffer,
        callback(bytes) {
          const chunk = buffer.subarray(0, bytes)
          if (open) onData(chunk)
          else greet(chunk)
          return true
        },
      },
    })
    function greet(chunk: Buffer) {
      handshake += chunk.toString('latin1')
      const end = handshake.indexOf('\r\n\r\n')
      if (end < 0) return
      if (!handshake.startsWith('HTTP/1.1 101'))
        return socket.destroy(new Error(`the upgrade was answered: ${handshake}`))
      open = true
      resolve(socket)
      if (handshake.length > end + 4) onData(Buffer.from(handshake.slice(end + 4), 'latin1'))
    }
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed during the handshake')))
    const lines = Object.entries({ ...headers, 'sec-websocket-key': randomBytes(16).toString('base64') })
    socket.write(
      [
        `GET ${pathname}${search} HTTP/1.1`,
        `host: ${hostname}:${port}`,
        'connection: Upgrade',
        'upgrade: websocket',
        'sec-websocket-version: 13',
        ...lines.map(([name, value]) => `${name}: ${value}`),
        '\r\n',
      ].join('\r\n'),
    )
  })
}
