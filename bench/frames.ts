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

/** Frames of a server: calls back for each with its first byte and, when it lies whole in the chunk, its payload. */
export function createFrameReader(onFrame: (first: number, chunk: Buffer, from: number, to: number) => void) {
  let rest: Buffer | null = null
  let skip = 0
  return (given: Buffer): void => {
    let at = 0
    if (skip > 0) {
      at = Math.min(skip, given.length)
      skip -= at
      if (skip > 0) return
    }
    const chunk = rest ? Buffer.concat([rest, given]) : given
    rest = null
    while (at < chunk.length) {
      const short = chunk.length - at < 2 ? 127 : chunk[at + 1]! & 0x7f
      const head = short < 126 ? 2 : short === 126 ? 4 : 10
      if (chunk.length - at < head) {
        rest = Buffer.from(chunk.subarray(at))
        return
      }
      const length =
        short < 126 ? short : short === 126 ? chunk.readUInt16BE(at + 2) : Number(chunk.readBigUInt64BE(at + 2))
      const end = at + head + length
      onFrame(chunk[at]!, chunk, at + head, Math.min(end, chunk.length))
      if (end > chunk.length) skip = end - chunk.length
      at = end
    }
  }
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
