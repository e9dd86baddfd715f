// Requests as fast as they are answered, over keep-alive connections, as cheap as Node allows, since this process uses the
// same cores as what it measures: a request is one buffer that is sent again with other ids, replies of all connections
// are read into one buffer and looked at for their status and their end only.

import { connect, type Socket } from 'node:net'

export interface LoadOptions {
  port: number
  connections: number
  /** The buffer that a connection sends; its ids are new. */
  next(): Buffer
  status: number
}

export interface Load {
  /** Sends for so long and waits for what is under way; returns replies and their times in milliseconds, sorted. */
  run(milliseconds: number): Promise<{ replies: number; seconds: number; latencies: Float64Array }>
  close(): void
}

interface Connection {
  send(): void
  close(): void
}

export async function openLoad(options: LoadOptions): Promise<Load> {
  const buffer = Buffer.alloc(64 * 1024)
  const latencies: number[] = []
  let end = 0
  let working = 0
  let settle: { resolve(): void; reject(error: Error): void } = { resolve() {}, reject() {} }

  async function open(): Promise<Connection> {
    const read = createReplyReader(options.status)
    let sentAt = 0
    const heard = (bytes: number) => {
      try {
        if (!read(buffer, bytes)) return
      } catch (error) {
        return settle.reject(error as Error)
      }
      const now = performance.now()
      latencies.push(now - sentAt)
      if (now < end) send()
      else if (--working === 0) settle.resolve()
    }
    const socket = await openSocket(options.port, buffer, heard)
    const lost = () => settle.reject(new Error('the server closed a connection'))
    socket.on('close', lost)
    function send() {
      sentAt = performance.now()
      socket.write(options.next())
    }
    return { send, close: () => void socket.off('close', lost).destroy() }
  }

  const opened = await Promise.all(Array.from({ length: options.connections }, open))
  return {
    async run(milliseconds) {
      latencies.length = 0
      const start = performance.now()
      end = start + milliseconds
      working = opened.length
      const finished = new Promise<void>((resolve, reject) => {
        settle = { resolve, reject }
      })
      for (const { send } of opened) send()
      await finished
      const seconds = (performance.now() - start) / 1000
      return { replies: latencies.length, seconds, latencies: Float64Array.from(latencies).sort() }
    },
    close() {
      for (const { close } of opened) close()
    },
  }
}

/** What comes is in `buffer` while `heard` runs, and only then. */
export function openSocket(port: number, buffer: Buffer, heard: (bytes: number) => void): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const callback = (bytes: number) => {
      heard(bytes)
      return true
    }
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread: { buffer, callback } }, () => {
      socket.off('error', reject)
      socket.on('error', () => {})
      resolve(socket)
    })
    socket.once('error', reject)
  })
}

/** True when a reply is complete; throws for any other status than the one expected. */
function createReplyReader(status: number): (buffer: Buffer, bytes: number) => boolean {
  const line = Buffer.from(`HTTP/1.1 ${status} `)
  let left = 0
  // Most replies are as long as the one before: then its end need not be looked for.
  let usual = 0
  let usualHead = Buffer.alloc(0)
  return (buffer, bytes) => {
    if (left > 0) {
      left -= bytes
      return left === 0
    }
    if (bytes === usual && buffer.compare(usualHead, 0, usualHead.length, 0, usualHead.length) === 0) return true
    const head = buffer.subarray(0, bytes).indexOf('\r\n\r\n')
    if (head < 0 || buffer.compare(line, 0, line.length, 0, line.length) !== 0)
      throw new Error(`answered ${buffer.toString('latin1', 0, Math.min(bytes, 500))}`)
    const text = buffer.toString('latin1', 0, head)
    const length = head + 4 + Number(/content-length: (\d+)/i.exec(text)?.[1])
    if (bytes === length) {
      usual = bytes
      usualHead = Buffer.from(buffer.subarray(0, head + 4))
    }
    left = length - bytes
    return left === 0
  }
}
