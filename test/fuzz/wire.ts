// The same inputs over sockets, to a whole server. Whatever is sent is answered once, as protocol.md has it, and never with
// a fault of the server; what it accepts is in the database; and none of it keeps the next one from being served.

import assert from 'node:assert/strict'
import { isUtf8 } from 'node:buffer'
import { once } from 'node:events'
import { WebSocket } from 'ws'
import { AppError } from '../../server/errors.ts'
import { elementsFrom, startsArray } from '../../server/ingest/json.ts'
import type { TestApp } from '../support/app.ts'
import type { Random } from '../support/random.ts'
import { dialRaw } from '../support/raw.ts'
import type { Scope } from '../support/scope.ts'
import { within } from '../support/within.ts'
import { asker, printable, requestBytes } from './asker.ts'
import type { Target } from './cases.ts'
import {
  arrayBytes,
  credentialText,
  envelopeBytes,
  eventBytes,
  type Known,
  listQuery,
  messageBytes,
  notificationText,
  pathPart,
  streamQuery,
} from './generate.ts'
import { mutatedBytes } from './mutate.ts'
import { apiAnswer, apiRefusal, ingestReply, serverMessage } from './shapes.ts'
import { damagedTarget, doorTarget } from './wire-doors.ts'

export interface Wire {
  /** By name, as many of each as may run side by side. */
  targets: Record<string, Target[]>
  /** Everything accepted is stored, nothing of a stranger is an error of ours, and an ordinary event is taken and told. */
  assertWell(): Promise<void>
}

const abreast = 6

export async function openWire(t: Scope, server: TestApp): Promise<Wire> {
  const accepted = new Set<string>()
  const known: Known = { project_id: server.project_id, public_key: server.public_key }
  const watcher = await openWatcher(t, server)
  const person = await server.database.connect('test stranger')
  const { sql } = server.database

  return {
    targets: {
      doors: Array.from({ length: abreast }, () => doorTarget(t, server, accepted)),
      damagedDoors: Array.from({ length: abreast }, () => damagedTarget(t, server, accepted)),
      ingest: Array.from({ length: abreast }, () => ingestTarget(t, server, accepted)),
      stream: Array.from({ length: abreast }, () => streamTarget(t, server)),
      streamQueries: Array.from({ length: abreast }, () => streamQueryTarget(t, server)),
      api: Array.from({ length: abreast }, () => apiTarget(t, server)),
      heads: Array.from({ length: abreast }, () => headTarget(server)),
      frames: Array.from({ length: abreast }, () => frameTarget(server)),
      notifications: [
        async (random) => {
          await person.query("select pg_notify('mesher', $1)", [notificationText(random, known)])
        },
      ],
    },

    async assertWell() {
      const { id } = await server.send({ message: 'an ordinary event' })
      await watcher.hear(id)
      const ready = await fetch(`${server.url}/readyz`)
      assert.equal(ready.status, 200, await ready.text())
      const stored = await sql<{ id: string }>("select replace(id::text, '-', '') as id from events")
      const ids = new Set(stored.map((row) => row.id))
      assert.equal(ids.size, stored.length, 'an event is stored twice')
      assert.deepEqual(
        [...accepted].filter((one) => !ids.has(one)),
        [],
        'accepted, and not in the database',
      )
      accepted.clear()
      const errors = server.log.lines.filter((line) => line.level === 'error')
      assert.deepEqual(errors, [], 'nothing of a stranger is an error of ours')
      server.log.lines.length = 0
    },
  }
}

/** A dashboard that sees everything and keeps none of it. */
async function openWatcher(t: Scope, server: TestApp): Promise<{ hear(eventId: string): Promise<void> }> {
  const path = `${server.url.replace('http', 'ws')}/stream/projects/${server.project_id}?sample=false`
  const socket = new WebSocket(path, { headers: { authorization: `Bearer ${server.token}` } })
  t.after(() => socket.terminate())
  await once(socket, 'message')
  let last = ''
  let wake = () => {}
  let failure: unknown
  socket.on('message', (data) => {
    try {
      const message = serverMessage(String(data))
      if (message.type === 'event') last = message.data.id
    } catch (error) {
      failure ??= error
    }
    wake()
  })
  socket.on('close', (code, reason) => {
    failure ??= new Error(`a dashboard that kept up was closed with ${code} ${reason}`)
    wake()
  })
  return {
    async hear(eventId) {
      const heard = async () => {
        while (last !== eventId && !failure) {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
        if (failure) throw failure
      }
      await within('an ordinary event on an open dashboard', heard(), 30_000)
    },
  }
}

/** A socket that is opened again when it was closed. */
function socketOf(t: Scope, open: () => Promise<WebSocket>) {
  let socket: WebSocket | null = null
  t.after(() => socket?.terminate())
  return async () => {
    if (socket?.readyState === WebSocket.OPEN) return socket
    socket = await open()
    return socket
  }
}

/** So many messages that `counts`; rejects when the socket closes first. */
async function answersOf(
  socket: WebSocket,
  count: number,
  counts: (text: string) => boolean,
  act: () => void,
): Promise<void> {
  if (count === 0) return act()
  const heard = new Promise<void>((resolve, reject) => {
    let left = count
    const done = () => {
      socket.off('message', take)
      socket.off('close', closed)
    }
    const take = (data: unknown) => {
      try {
        if (counts(String(data)) && --left > 0) return
        if (left > 0) return
        done()
        resolve()
      } catch (error) {
        done()
        reject(error)
      }
    }
    const closed = (code: number, reason: Buffer) => {
      done()
      reject(new Error(`closed with ${code} ${reason} while ${left} answers were due`))
    }
    socket.on('message', take)
    socket.on('close', closed)
  })
  act()
  await within(`${count} answers`, heard, 30_000)
}

function ingestTarget(t: Scope, server: TestApp, accepted: Set<string>): Target {
  const open = socketOf(t, async () => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ingest?sentry_key=${server.public_key}`)
    await once(socket, 'open')
    return socket
  })
  const take = (text: string) => {
    const reply = ingestReply(text)
    if (reply.status === 'accepted') accepted.add(reply.id)
    return true
  }
  return async (random) => {
    const frame = random.pick([eventBytes, arrayBytes, envelopeBytes])(random)
    const binary = !isUtf8(frame) || random.below(3) === 0
    const socket = await open()
    await answersOf(socket, binary ? 1 : repliesTo(frame), take, () => socket.send(frame, { binary }))
  }
}

/** One for each event of an array, one for anything else. */
function repliesTo(frame: Buffer): number {
  if (!startsArray(frame)) return 1
  try {
    return Math.max(1, elementsFrom(frame, 1000).length)
  } catch (error) {
    if (error instanceof AppError) return 1
    throw error
  }
}

function streamTarget(t: Scope, server: TestApp): Target {
  const headers = { authorization: `Bearer ${server.token}` }
  const path = `${server.url.replace('http', 'ws')}/stream/projects/${server.project_id}`
  const open = socketOf(t, async () => {
    const socket = new WebSocket(path, { headers })
    await once(socket, 'open')
    return socket
  })
  const isAnswer = (text: string) => ['error', 'pong', 'filters_updated'].includes(serverMessage(text).type)
  return async (random) => {
    // A longer message closes the socket.
    const messages = Array.from({ length: 1 + random.below(3) }, () => messageBytes(random).subarray(0, 16 * 1024))
    const socket = await open()
    await answersOf(socket, messages.length, isAnswer, () => {
      for (const message of messages) socket.send(message, { binary: !isUtf8(message) || random.below(20) === 0 })
    })
  }
}

const handshakeHeaders = [
  'upgrade: websocket',
  'connection: Upgrade',
  'sec-websocket-version: 13',
  'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
]

function streamQueryTarget(t: Scope, server: TestApp): Target {
  const ask = asker(t, server)
  return async (random) => {
    const project = random.below(4) === 0 ? printable(pathPart(random)).replace(/[?#]/g, '_') : server.project_id
    const target = `/stream/projects/${project}?${printable(streamQuery(random))}`
    const authorization = `authorization: Bearer ${random.below(8) === 0 ? printable(credentialText(random)) : server.token}`
    const answer = await ask(requestBytes('GET', target, [...handshakeHeaders, authorization]))
    if (answer.status !== 101) apiRefusal(answer)
  }
}

function apiTarget(t: Scope, server: TestApp): Target {
  const ask = asker(t, server)
  const actions = ['resolve', 'unresolve', 'archive', 'discard', 'assign', 'delete', 'merge']
  return async (random) => {
    const id = String(1 + random.below(200))
    const part = random.below(2) === 0 ? id : printable(pathPart(random)).replace(/[?#]/g, '_')
    const query = printable(listQuery(random))
    const authorization = `authorization: Bearer ${random.below(10) === 0 ? printable(credentialText(random)) : server.token}`
    const bodies = ['{}', '{"assigned_to":"Ada"}', '{"assigned_to":"Ada \\u0000\\ud800"}', '{"assigned_to":null}']
    const whole = Buffer.from(random.pick(bodies))
    const body = random.below(2) === 0 ? whole : mutatedBytes(random, whole)
    const requests = [
      () => requestBytes('GET', `/api/v1/projects/${part}/issues?${query}`, [authorization]),
      () => requestBytes('GET', `/api/v1/issues/${part}`, [authorization]),
      () => requestBytes('POST', `/api/v1/issues/${part}/${random.pick(actions)}`, [authorization], body),
    ]
    apiAnswer(await ask(random.pick(requests)()))
  }
}

/** Refused by uWebSockets.js itself: a version or target that it does not take. */
const notSupported = 505

/** The whole request is mutated, its head too, so that it may be no request any more. */
function headTarget(server: TestApp): Target {
  const body = '{"message":"text"}'
  const heads = [
    `POST /api/v1/events?sentry_key=${server.public_key} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    `POST /api/${server.project_id}/envelope/ HTTP/1.1\r\nHost: x\r\nX-Sentry-Auth: Sentry sentry_key=${server.public_key}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}\n{}\r\n0\r\n\r\n`,
    `GET /api/v1/projects/app/issues?limit=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.token}\r\nAccept: */*\r\n\r\n`,
    `GET /ingest?sentry_key=${server.public_key} HTTP/1.1\r\n${handshakeHeaders.join('\r\n')}\r\n\r\n`,
    'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n',
    'OPTIONS /api/v1/events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n',
  ].map((text) => Buffer.from(text))
  return async (random) => {
    const bytes = mutatedBytes(random, random.pick(heads), heads)
    const connection = await dialRaw(server.app.port)
    for (const part of cutInPieces(random, bytes)) connection.write(part)
    connection.socket.end()
    await within('the end of a connection that was ended', connection.end)
    connection.socket.destroy()
    for (const { status, body } of connection.answers)
      assert.ok(status < 500 || status === notSupported, `${status} ${body}`)
    if (connection.answers.at(-1)?.status === 101) return
    assert.equal(connection.rest().length, 0, `no answer: ${connection.rest().toString('latin1', 0, 300)}`)
  }
}

function cutInPieces(random: Random, bytes: Buffer): Buffer[] {
  if (random.below(2) === 0) return [bytes]
  const at = random.below(bytes.length + 1)
  return [bytes.subarray(0, at), bytes.subarray(at)]
}

/** What follows the handshake is no WebSocket frame, or almost one. */
function frameTarget(server: TestApp): Target {
  const handshake = requestBytes('GET', `/ingest?sentry_key=${server.public_key}`, handshakeHeaders)
  const frame = (opcode: number, payload: Buffer) =>
    Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]), payload])
  const frames = [
    frame(1, Buffer.from('{"message":"text"}')),
    frame(2, Buffer.from('{}\n{"type":"event"}\n{}')),
    frame(9, Buffer.from('ping')),
    frame(8, Buffer.from([3, 232])),
    Buffer.from([0x01, 0x82, 1, 2, 3, 4, 5, 6, 0x80, 0x81, 1, 2, 3, 4, 5]),
    Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
  ]
  return async (random) => {
    const connection = await dialRaw(server.app.port)
    for (const part of handshake) connection.write(part)
    const answer = await connection.next()
    assert.equal(answer?.status, 101)
    for (let n = 1 + random.below(3); n > 0; n--) connection.write(mutatedBytes(random, random.pick(frames), frames))
    connection.socket.end()
    await within('the end of a socket that was ended', connection.end)
    connection.socket.destroy()
  }
}
