// Requests as fast as they are answered, over keep-alive connections, as cheap as it gets: a request is one buffer that
// is sent again with other ids, a reply is looked at for its status and its end only.

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

export async function openLoad(options: LoadOptions): Promise<Load> {
  const sockets = await Promise.all(Array.from({ length: options.connections }, () => open(options.port)))
  let end = 0
  let replies = 0
  const latencies: number[] = []

  function work(socket: Socket): Promise<void> {
    return new Promise((resolve, reject) => {
      const reader = createReplyReader(options.status)
      let sentAt = 0
      const send = () => {
        sentAt = performance.now()
        socket.write(options.next())
      }
      const finish = (error?: Error) => {
        socket.removeAllListeners()
        socket.on('error', () => {})
        if (error) reject(error)
        else resolve()
      }
      socket.on('data', (chunk) => {
        try {
          if (!reader(chunk)) return
        } catch (error) {
          return finish(error as Error)
        }
        replies += 1
        latencies.push(performance.now() - sentAt)
        if (performance.now() < end) send()
        else finish()
      })
      socket.on('error', finish)
      socket.on('close', () => finish(new Error('the server closed a connection')))
      send()
    })
  }

  return {
    async run(milliseconds) {
      replies = 0
      latencies.length = 0
      const start = performance.now()
      end = start + milliseconds
      await Promise.all(sockets.map(work))
      const seconds = (performance.now() - start) / 1000
      return { replies, seconds, latencies: Float64Array.from(latencies).sort() }
    },
    close() {
      for (const socket of sockets) socket.destroy()
    },
  }
}

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true }, () => {
      socket.removeAllListeners('error')
      resolve(socket)
    })
    socket.once('error', reject)
  })
}

/** True when a reply is complete; throws for any other status than the one expected. */
function createReplyReader(status: number): (chunk: Buffer) => boolean {
  let left = 0
  return (chunk) => {
    if (left > 0) {
      left -= chunk.length
      return left === 0
    }
    const head = chunk.indexOf('\r\n\r\n')
    const text = chunk.toString('latin1', 0, head)
    if (head < 0 || !text.startsWith(`HTTP/1.1 ${status}`))
      throw new Error(`answered ${chunk.toString('latin1', 0, 500)}`)
    const length = Number(/content-length: (\d+)/i.exec(text)?.[1])
    left = head + 4 + length - chunk.length
    return left === 0
  }
}
