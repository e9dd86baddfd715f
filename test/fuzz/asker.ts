// Requests byte by byte, one after the other on a connection, whose answers are read strictly.

import assert from 'node:assert/strict'
import type { TestApp } from '../support/app.ts'
import { dialRaw, type RawAnswer, type RawConnection } from '../support/raw.ts'
import type { Scope } from '../support/scope.ts'

/** One request after the other on one connection. */
export function asker(t: Scope, server: TestApp) {
  let connection: RawConnection | null = null
  let usedAt = 0
  t.after(() => connection?.socket.destroy())
  return async (bytes: Buffer[]): Promise<RawAnswer> => {
    // The server closes what is idle for 10 s.
    if (performance.now() - usedAt > 5_000) {
      connection?.socket.destroy()
      connection = null
    }
    connection ??= await dialRaw(server.app.port)
    usedAt = performance.now()
    for (const part of bytes) connection.write(part)
    const answer = await connection.next()
    assert.ok(answer, `the connection ended without an answer; it held ${connection.rest().toString('latin1', 0, 200)}`)
    // Frames may follow a handshake at once.
    const extra = answer.status === 101 ? Buffer.alloc(0) : connection.rest()
    assert.equal(extra.length, 0, `after the answer came ${extra.toString('latin1', 0, 200)}`)
    // A connection keeps its answers, so none is used for ever.
    if (answer.status === 101 || connection.ended() || connection.answers.length === 200) {
      connection.socket.destroy()
      connection = null
    }
    return answer
  }
}

/** What may stand in a target or a header's value; control characters are another target's. */
export const printable = (text: string) => text.replace(/[^\x21-\x7e\x80-\xff]/g, '_').slice(0, 4_000)

export function requestBytes(method: string, target: string, headers: string[], body?: Buffer): Buffer[] {
  const length = body === undefined ? [] : [`content-length: ${body.length}`]
  const head = [`${method} ${target} HTTP/1.1`, 'host: x', ...headers, ...length, '', ''].join('\r\n')
  return [Buffer.from(head, 'latin1'), ...(body?.length ? [body] : [])]
}
