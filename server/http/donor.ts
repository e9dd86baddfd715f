// A socket of our own that lends its cork to upgrades that were decided later.
//
// `res.cork(() => res.upgrade(…))`, as the library's example has it, reads after the upgrade the HTTP state of memory that
// is a WebSocket by then, and closes one in 16 fresh sockets (measured; uWebSockets #1929). Without a cork the library
// prints a warning for every upgrade. When some other socket of the loop is corked, `res.cork` only calls its argument,
// without that end: so one WebSocket, from this process to itself over a port that is closed again at once, is kept for it.

import type * as Native from 'uWebSockets.js'
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

type Library = Pick<typeof Native, 'App' | 'us_socket_local_port' | 'us_listen_socket_close'>

export interface CorkDonor {
  /** Runs `use` while another socket is corked. */
  lend(use: () => void): void
  close(): void
}

export async function createCorkDonor(uws: Library): Promise<CorkDonor> {
  let listening: Native.us_listen_socket | false = false
  const app = uws.App()
  const opened = new Promise<Native.WebSocket<unknown>>((resolve) => {
    app.ws('/', { idleTimeout: 0, sendPingsAutomatically: false, open: resolve })
  })
  app.listen('127.0.0.1', 0, (token) => {
    listening = token
  })
  if (!listening) throw new Error('No port of the loopback interface is free for a socket of this server to itself.')
  const client = shakeHands(uws.us_socket_local_port(listening))
  const failed = new Promise<never>((_, reject) => client.once('error', reject))
  const donor = await Promise.race([opened, failed])
  uws.us_listen_socket_close(listening)
  client.on('error', () => {})
  return {
    lend: (use) => void donor.cork(use),
    close() {
      client.destroy()
      app.close()
    },
  }
}

function shakeHands(port: number): Socket {
  const client = connect(port, '127.0.0.1')
  const key = randomBytes(16).toString('base64')
  client.write(
    `GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: ${key}\r\n\r\n`,
  )
  return client.resume()
}
