// One WebSocket as uWebSockets.js gives it; part of uws.ts, whose laws it keeps.

import type * as Native from 'uWebSockets.js'
import type { Peer } from './types.ts'

export interface UserData<D> {
  peer: NativePeer<D>
}

export class NativePeer<D> implements Peer<D> {
  readonly data: D
  /** Drops that are not reported yet. */
  dropped = 0
  #ws: Native.WebSocket<UserData<D>> | undefined

  constructor(data: D) {
    this.data = data
  }

  attach(ws: Native.WebSocket<UserData<D>>): void {
    this.#ws = ws
  }

  detach(): void {
    this.#ws = undefined
  }

  get closed(): boolean {
    return this.#ws === undefined
  }

  send(text: string | Buffer): boolean {
    // 1 is sent, 0 is buffered and will be sent, 2 is dropped.
    return this.#ws !== undefined && this.#ws.send(text, false, false) !== 2
  }

  subscribe(topic: string): boolean {
    return this.#ws?.subscribe(topic) ?? false
  }

  unsubscribe(topic: string): boolean {
    return this.#ws?.unsubscribe(topic) ?? false
  }

  bufferedAmount(): number {
    return this.#ws?.getBufferedAmount() ?? 0
  }

  cork(run: () => void): void {
    this.#ws?.cork(run)
  }

  end(code: number, reason: string): void {
    this.#ws?.end(code, cut(reason, 123))
  }

  terminate(): void {
    this.#ws?.close()
  }
}

function cut(text: string, maxBytes: number): string {
  if (text.length * 3 <= maxBytes) return text
  let length = Math.min(text.length, maxBytes)
  while (Buffer.byteLength(text.slice(0, length)) > maxBytes) length -= 1
  return text.slice(0, length)
}
