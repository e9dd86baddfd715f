// Many stream sockets in this process, counted and not read: what they cost must not hide what the server costs.

import type { Socket } from 'node:net'
import type { Context } from './figure.ts'
import { createFrameReader, opcodes, openWebSocket } from './frames.ts'

export interface Dashboards {
  /** Text frames since the last reset, of all sockets. */
  received(): number
  /** The least and the most that one socket has received. */
  spread(): { least: number; most: number }
  reset(): void
  close(): void
}

export interface DashboardsOptions {
  url: string
  headers?: Record<string, string>
  sockets: number
  /** Every text frame; its bytes are gone afterwards. */
  onFrame?(chunk: Buffer, from: number, to: number): void
  /** How many frames each is sent when it joins. */
  greetings?: number
}

const openAtOnce = 100

export async function openDashboards(context: Context, options: DashboardsOptions): Promise<Dashboards> {
  const counts = new Uint32Array(options.sockets)
  const opened: Socket[] = []
  const buffer = Buffer.alloc(256 * 1024)
  let total = 0
  let failure: Error | undefined
  let closing = false

  async function open(index: number): Promise<void> {
    const read = createFrameReader((opcode, chunk, from, to) => {
      if (opcode !== opcodes.text) return
      counts[index]! += 1
      total += 1
      options.onFrame?.(chunk, from, to)
    })
    const socket = await openWebSocket(options.url, options.headers ?? {}, buffer, read)
    opened.push(socket)
    socket.on('close', () => {
      if (!closing) failure ??= new Error('the server closed a stream socket')
    })
  }

  function received(): number {
    if (failure) throw failure
    return total
  }

  function close() {
    closing = true
    for (const socket of opened) socket.destroy()
  }

  context.after(async () => close())
  for (let at = 0; at < options.sockets; at += openAtOnce) {
    const size = Math.min(openAtOnce, options.sockets - at)
    await Promise.all(Array.from({ length: size }, (_, n) => open(at + n)))
  }
  await until(() => received() >= options.sockets * (options.greetings ?? 1), 30_000, 'every socket is subscribed')

  return {
    received,
    spread: () => ({ least: Math.min(...counts), most: Math.max(...counts) }),
    reset() {
      counts.fill(0)
      total = 0
    },
    close,
  }
}

export async function until(holds: () => boolean, patience: number, what: string): Promise<void> {
  for (const end = performance.now() + patience; !holds(); await new Promise((resolve) => setTimeout(resolve, 2))) {
    if (performance.now() > end) throw new Error(`waited ${patience / 1000} s until ${what}`)
  }
}
