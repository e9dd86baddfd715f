// The HTTP and WebSocket server by itself, through real connections. What is tested most is what would end the process.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { AppError } from '../../server/errors.ts'
import type { HttpRequest, HttpServer, Peer, SocketRoute } from '../../server/http/types.ts'
import { createHttpServer } from '../../server/http/uws.ts'
import type { Log } from '../../server/log.ts'

const gone = { timeout: 10_000 }

test('a body arrives exactly as it was sent, with a length or chunked', gone, async (t) => {
  const { port } = await start(t, (server) =>
    server.http({ method: 'post', path: '/echo', maxBody: 1_000_000, handle: async (r) => ok(await r.body()) }),
  )
  for (const size of [0, 1, 1500, 70_000, 900_000]) {
    const body = randomBytes(size)
    const whole = await ask(port, { method: 'POST', path: '/echo', body })
    assert.ok(whole.body.equals(body), `${size} bytes with a length`)
    const parts = [body.subarray(0, size >> 1), body.subarray(size >> 1)].filter((part) => part.length > 0)
    const chunked = await ask(port, { method: 'POST', path: '/echo', chunks: parts })
    assert.ok(chunked.body.equals(body), `${size} bytes chunked`)
  }
})

test('a body that is asked for late is still whole', gone, async (t) => {
  const { port } = await start(t, (server) =>
    server.http({
      method: 'post',
      path: '/late',
      maxBody: 1_000_000,
      async handle(request) {
        for (let i = 0; i < 20; i += 1) await nextTurn()
        return ok(await request.body())
      },
    }),
  )
  const body = randomBytes(300_000)
  assert.ok((await ask(port, { method: 'POST', path: '/late', body })).body.equals(body))
})

test(
  'a body over the limit is answered 413, by its length before it is sent and by counting when chunked',
  gone,
  async (t) => {
    let handled = 0
    const { port } = await start(t, (server) => {
      server.http({
        method: 'post',
        path: '/small',
        maxBody: 1000,
        async handle(request) {
          handled += 1
          return ok(await request.body())
        },
      })
      server.http({
        method: 'post',
        path: '/blind',
        maxBody: 1000,
        handle(request) {
          void request.body()
          return ok('did not look')
        },
      })
    })
    const client = await dial(t, port)
    client.write('POST /small HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n')
    assert.match(
      await client.until('}}'),
      /^HTTP\/1\.1 413 Payload Too Large\r\n[\s\S]*"code":"too_large"[\s\S]*1000 bytes/,
    )

    const counted = await ask(port, { method: 'POST', path: '/small', chunks: [randomBytes(600), randomBytes(600)] })
    assert.equal(counted.status, 413)
    const blind = await ask(port, { method: 'POST', path: '/blind', body: randomBytes(1001) })
    assert.equal(blind.text, 'did not look')
    const exact = await ask(port, { method: 'POST', path: '/small', chunks: [randomBytes(600), randomBytes(400)] })
    assert.equal(exact.status, 200)
    assert.equal(handled, 3)
  },
)

test('a route without maxBody takes no body, and says so', gone, async (t) => {
  const { port } = await start(t, (server) =>
    server.http({ method: 'post', path: '/none', handle: async (r) => ok(await r.body()) }),
  )
  assert.equal((await ask(port, { method: 'POST', path: '/none' })).status, 200)
  for (const sent of [{ body: Buffer.from('x') }, { chunks: [Buffer.from('x')] }]) {
    const reply = await ask(port, { method: 'POST', path: '/none', ...sent })
    assert.equal(reply.status, 413)
    assert.match(reply.text, /takes no body/)
  }
})

test(
  'after an early refusal the rest of the body is ignored and the connection serves the next request',
  gone,
  async (t) => {
    const { port } = await start(t, (server) => {
      server.http({
        method: 'post',
        path: '/closed',
        maxBody: 100_000,
        handle() {
          throw new AppError('unauthenticated', 'No key.')
        },
      })
      server.http({ method: 'get', path: '/open', handle: () => ok('still here') })
    })
    const client = await dial(t, port)
    client.write(`POST /closed HTTP/1.1\r\nhost: x\r\ncontent-length: 50000\r\n\r\n${'a'.repeat(20_000)}`)
    assert.match(await client.until('}}'), /^HTTP\/1\.1 401 Unauthorized\r\n/)
    client.write(`${'a'.repeat(30_000)}GET /open HTTP/1.1\r\nhost: x\r\n\r\n`)
    assert.match(await client.until('still here'), /^HTTP\/1\.1 200 OK\r\n/)
  },
)

test(
  'a handler that throws or rejects is answered 500 without detail, logged, and harms nobody else',
  gone,
  async (t) => {
    const { port, logged } = await start(t, (server) => {
      server.http({ method: 'get', path: '/ok', handle: () => ok('ok') })
      server.http({
        method: 'get',
        path: '/throws',
        handle() {
          throw new Error('secret one')
        },
      })
      server.http({ method: 'get', path: '/rejects', handle: () => Promise.reject(new Error('secret two')) })
      server.http({
        method: 'get',
        path: '/late',
        async handle() {
          await nextTurn()
          throw new Error('secret three')
        },
      })
    })
    for (const path of ['/throws', '/rejects', '/late']) {
      const reply = await ask(port, { path })
      assert.equal(reply.status, 500)
      assert.equal(JSON.parse(reply.text).error.code, 'internal')
      assert.doesNotMatch(reply.text, /secret/)
    }
    assert.deepEqual(
      logged.map(({ data }) => (data.error as Error).message),
      ['secret one', 'secret two', 'secret three'],
    )
    assert.equal((await ask(port, { path: '/ok' })).text, 'ok')
  },
)

test(
  'an error of a client is answered with its status, code, details and Retry-After, or as its route likes',
  gone,
  async (t) => {
    const { port, logged } = await start(t, (server) => {
      const handle = () => {
        throw new AppError('rate_limited', 'Too many.', { retryAfter: 1.2, details: [{ path: 'a', message: 'b' }] })
      }
      server.http({ method: 'get', path: '/plain', handle })
      server.http({ method: 'get', path: '/own', handle, onError: () => ({ status: 418, body: '{"own":true}' }) })
      server.http({
        method: 'get',
        path: '/worse',
        handle,
        onError() {
          throw new Error('in onError')
        },
      })
    })
    const plain = await ask(port, { path: '/plain' })
    assert.equal(plain.status, 429)
    assert.equal(plain.reason, 'Too Many Requests')
    assert.equal(plain.headers['retry-after'], '2')
    assert.equal(plain.headers['content-type'], 'application/json')
    assert.deepEqual(JSON.parse(plain.text), {
      error: { code: 'rate_limited', message: 'Too many.', details: [{ path: 'a', message: 'b' }] },
    })
    assert.equal((await ask(port, { path: '/own' })).status, 418)
    assert.equal((await ask(port, { path: '/worse' })).status, 429)
    assert.deepEqual(
      logged.map(({ name }) => name),
      ['http.on_error_failed'],
    )
  },
)

test('a handler that answers, or fails, after its client has gone touches nothing', gone, async (t) => {
  const gate = deferred()
  const seen: HttpRequest[] = []
  const { port, server, requests } = await start(t, (server) => {
    server.http({
      method: 'post',
      path: '/slow',
      maxBody: 1000,
      async handle(request) {
        seen.push(request)
        await gate.promise
        if (seen.length === 1) return ok('too late')
        throw new AppError('conflict', 'Too late.')
      },
    })
    server.http({ method: 'get', path: '/ok', handle: () => ok('ok') })
  })
  for (const body of ['', 'abc']) {
    const client = await dial(t, port)
    client.write(`POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
    const nth = body.length === 0 ? 1 : 2
    await eventually(() => assert.equal(seen.length, nth))
    client.socket.destroy()
    await eventually(() => assert.ok(seen[nth - 1]!.signal.aborted))
  }
  const idle = server.idle()
  gate.resolve()
  await idle
  assert.deepEqual(
    requests.map(({ path, status }) => [path, status]),
    [
      ['/slow', 499],
      ['/slow', 499],
    ],
  )
  assert.equal((await ask(port, { path: '/ok' })).text, 'ok')
})

test('a client that goes away in the middle of its body rejects body(), also when nobody looks', gone, async (t) => {
  const failures: unknown[] = []
  const { port, server } = await start(t, (server) => {
    server.http({
      method: 'post',
      path: '/half',
      maxBody: 1000,
      async handle(request) {
        await request.body().catch((error) => failures.push(error))
        return ok('')
      },
    })
    server.http({
      method: 'post',
      path: '/unseen',
      maxBody: 1000,
      async handle(request) {
        void request.body()
        await eventually(() => assert.ok(request.signal.aborted))
        failures.push('unseen')
        return ok('')
      },
    })
  })
  for (const path of ['/half', '/unseen']) {
    const client = await dial(t, port)
    client.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\nhalf`)
    await client.until('100 Continue')
    client.socket.destroy()
  }
  await eventually(() => assert.equal(failures.length, 2))
  await server.idle()
  assert.ok(failures.some((error) => error instanceof AppError && error.code === 'bad_request'))
})

test(
  'an unknown path is 404, a known one with another method 405 with Allow, and HEAD works where GET does',
  gone,
  async (t) => {
    const { port } = await start(t, (server) => {
      server.http({ method: 'get', path: '/api/:id', handle: (r) => ok(`id ${r.params.id}`) })
      server.http({ method: 'delete', path: '/api/:id', handle: () => ({ status: 204 }) })
      server.http({ method: 'options', path: '/api/:id', handle: () => ({ status: 200, headers: { 'x-a': 'b' } }) })
    })
    const unknown = await ask(port, { path: '/nowhere?x=1' })
    assert.equal(unknown.status, 404)
    assert.equal(JSON.parse(unknown.text).error.code, 'not_found')
    const wrong = await ask(port, { method: 'PUT', path: '/api/7' })
    assert.equal(wrong.status, 405)
    assert.equal(wrong.headers.allow, 'GET, HEAD, DELETE, OPTIONS')
    assert.equal(JSON.parse(wrong.text).error.code, 'method_not_allowed')
    const head = await ask(port, { method: 'HEAD', path: '/api/7' })
    assert.equal(head.status, 200)
    assert.equal(head.headers['content-length'], '4')
    assert.equal(head.text, '')
    const none = await ask(port, { method: 'DELETE', path: '/api/7' })
    assert.equal(none.status, 204)
    assert.equal(none.headers['content-length'], undefined)
    assert.equal((await ask(port, { method: 'OPTIONS', path: '/api/7' })).headers['x-a'], 'b')
  },
)

test('path parameters are decoded, and bad encoding is a 400', gone, async (t) => {
  const { port } = await start(t, (server) =>
    server.http({
      method: 'get',
      path: '/p/:project/i/:issue',
      handle: (r) => ok(JSON.stringify([r.params, r.path, r.query])),
    }),
  )
  const good = await ask(port, { path: '/p/caf%C3%A9%2Fx/i/7?a=%20&b' })
  assert.deepEqual(JSON.parse(good.text), [{ project: 'café/x', issue: '7' }, '/p/caf%C3%A9%2Fx/i/7', 'a=%20&b'])
  for (const bad of ['/p/%/i/7', '/p/%ff/i/7', '/p/1/i/%E0%A4%A']) {
    const reply = await ask(port, { path: bad })
    assert.equal(reply.status, 400)
    assert.equal(JSON.parse(reply.text).error.code, 'bad_request')
  }
})

test('headers can be read after an await, by lower-case name, and are empty when absent', gone, async (t) => {
  const { port } = await start(t, (server) =>
    server.http({
      method: 'get',
      path: '/',
      async handle(request) {
        await nextTurn()
        const values = ['x-one', 'x-two', '__proto__', 'constructor'].map((name) => request.header(name))
        return ok(JSON.stringify([...values, request.remoteAddress]))
      },
    }),
  )
  const reply = await ask(port, { path: '/', headers: { 'X-One': 'a' } })
  assert.deepEqual(JSON.parse(reply.text), ['a', '', '', '', '127.0.0.1'])
})

test('12 KB of headers are accepted, however they are cut into packets', gone, async (t) => {
  const { port } = await start(t, (server) =>
    server.http({ method: 'get', path: '/', handle: (r) => ok(String(r.header('cookie').length)) }),
  )
  const client = await dial(t, port)
  client.write(`GET / HTTP/1.1\r\nhost: x\r\ncookie: ${'c'.repeat(6000)}`)
  await ask(port, { path: '/' }) // The server has read the first half when it has answered another connection.
  client.write(`${'c'.repeat(6000)}\r\n\r\n`)
  assert.match(await client.until('12000'), /^HTTP\/1\.1 200 OK/)
})

test('a value of a reply header cannot start another header', gone, async (t) => {
  const { port } = await start(t, (server) =>
    server.http({ method: 'get', path: '/', handle: () => ({ status: 200, headers: { 'x-a': 'b\r\nx-evil: 1' } }) }),
  )
  const reply = await ask(port, { path: '/' })
  assert.equal(reply.headers['x-a'], 'b x-evil: 1')
  assert.equal(reply.headers['x-evil'], undefined)
})

test(
  'pipelined requests are answered in order when that needs no waiting, and refused by closing when it does',
  gone,
  async (t) => {
    const gate = deferred()
    let aborted = false
    const { port } = await start(t, (server) => {
      server.http({ method: 'get', path: '/now/:n', handle: (r) => ok(`now ${r.params.n}.`) })
      server.http({
        method: 'get',
        path: '/wait',
        async handle(request) {
          await gate.promise
          aborted = request.signal.aborted
          return ok('')
        },
      })
    })
    const client = await dial(t, port)
    client.write('GET /now/1 HTTP/1.1\r\nhost: x\r\n\r\nGET /now/2 HTTP/1.1\r\nhost: x\r\n\r\n')
    assert.match(await client.until('now 2.'), /now 1\.[\s\S]*now 2\.$/)
    client.write('GET /wait HTTP/1.1\r\nhost: x\r\n\r\nGET /now/3 HTTP/1.1\r\nhost: x\r\n\r\n')
    await client.closed
    gate.resolve()
    await eventually(() => assert.ok(aborted))
    assert.equal((await ask(port, { path: '/now/4' })).text, 'now 4.')
  },
)

test('a large reply to a slow reader arrives whole', gone, async (t) => {
  const body = randomBytes(8_000_000)
  const { port } = await start(t, (server) => server.http({ method: 'get', path: '/', handle: () => ok(body) }))
  const reply = await ask(port, { path: '/', pause: true })
  assert.ok(reply.body.equals(body))
})

test(
  'a port that is taken is reported in one sentence, and a free one is below the outgoing range',
  gone,
  async (t) => {
    const first = await start(t, (server) => server.http({ method: 'get', path: '/', handle: () => ok('first') }))
    assert.ok(first.port < 32_768)
    const second = createHttpServer({ log: first.log })
    await assert.rejects(second.listen('127.0.0.1', first.port), {
      message: `Port ${first.port} on 127.0.0.1 is taken: stop what listens there, or choose another port.`,
    })
    await assert.rejects(second.listen('192.0.2.1', first.port), /EADDRNOTAVAIL/)
    assert.equal((await ask(first.port, { path: '/' })).text, 'first')
    first.server.close()
    const third = createHttpServer({ log: first.log })
    t.after(() => third.close())
    third.http({ method: 'get', path: '/', handle: () => ok('third') })
    assert.equal(await third.listen('127.0.0.1', first.port), first.port, 'a port is free again at once')
    assert.equal((await ask(first.port, { path: '/' })).text, 'third')
  },
)

test('two servers in one process share nothing', gone, async (t) => {
  const make = (name: string) =>
    start(t, (server) => {
      server.http({ method: 'get', path: '/', handle: () => ok(name) })
      server.socket({ ...quiet, open: (peer) => void peer.subscribe('news') })
    })
  const [a, b] = await Promise.all([make('a'), make('b')])
  assert.equal((await ask(a.port, { path: '/' })).text, 'a')
  assert.equal((await ask(b.port, { path: '/' })).text, 'b')
  const listener = await join(t, a.port)
  assert.equal(a.server.numSubscribers('news'), 1)
  assert.equal(b.server.publish('news', 'from b'), false)
  assert.equal(a.server.publish('news', 'from a'), true)
  assert.equal(await listener.next(), 'from a')
})

test(
  'an upgrade is refused with an HTTP answer, at once or later, and a plain GET of a socket is told what it is',
  gone,
  async (t) => {
    const { port, server, logged } = await start(t, (server) => {
      server.socket({
        ...quiet,
        upgrade() {
          throw new AppError('unauthenticated', 'No key.')
        },
      })
      server.socket({
        ...quiet,
        path: '/later',
        async upgrade() {
          await nextTurn()
          throw new AppError('forbidden', 'Not yours.')
        },
      })
      server.socket({ ...quiet, path: '/broken', upgrade: () => Promise.reject(new Error('secret')) })
    })
    for (const [path, status] of [
      ['/socket', 401],
      ['/later', 403],
      ['/broken', 500],
    ] as const) {
      const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`)
      ws.on('error', () => {})
      const [, response] = (await once(ws, 'unexpected-response')) as [unknown, IncomingMessage]
      assert.equal(response.statusCode, status)
      assert.match(await text(response), /^{"error":{"code":"\w+","message":"[^"]+"}}$/)
    }
    const plain = await ask(port, { path: '/socket' })
    assert.equal(plain.status, 400)
    assert.match(plain.text, /WebSocket/)
    assert.equal((await ask(port, { method: 'POST', path: '/socket' })).headers.allow, 'GET')
    const closing = await dial(t, port)
    closing.write(handshake('/socket').replace('Connection: Upgrade', 'Connection: close'))
    assert.match(await closing.until('}}'), /^HTTP\/1\.1 400 /)
    assert.equal([...server.peers()].length, 0)
    assert.deepEqual(
      logged.map(({ data }) => (data.error as Error).message),
      ['secret'],
    )
  },
)

test('the accepted subprotocol comes back and the token beside it never does', gone, async (t) => {
  const offered: string[] = []
  const { port } = await start(t, (server) => {
    const upgrade = (request: HttpRequest) => {
      offered.push(request.header('sec-websocket-protocol'))
      return { data: undefined, protocol: 'mesher.v1' }
    }
    server.socket({ ...quiet, upgrade })
    server.socket({ ...quiet, path: '/later', upgrade: async (request) => upgrade(request) })
    server.socket({ ...quiet, path: '/none', upgrade: () => ({ data: undefined }) })
  })
  for (const path of ['/socket', '/later']) {
    const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`, ['bearer.SECRET', 'mesher.v1'])
    const [response] = (await once(ws, 'upgrade')) as [IncomingMessage]
    assert.equal(response.headers['sec-websocket-protocol'], 'mesher.v1')
    assert.doesNotMatch(response.rawHeaders.join(), /SECRET/)
    ws.terminate()
  }
  assert.deepEqual(offered, ['bearer.SECRET,mesher.v1', 'bearer.SECRET,mesher.v1'])
  const none = await dial(t, port)
  none.write(handshake('/none', 'Sec-WebSocket-Protocol: bearer.SECRET\r\n'))
  assert.doesNotMatch(await none.until('\r\n\r\n'), /SECRET/)
})

test('a client that goes away while its upgrade is decided is never opened', gone, async (t) => {
  const gate = deferred()
  let asked: HttpRequest | undefined
  let opened = 0
  const { port, server, requests } = await start(t, (server) =>
    server.socket({
      ...quiet,
      async upgrade(request) {
        asked = request
        await gate.promise
        return { data: undefined }
      },
      open() {
        opened += 1
      },
    }),
  )
  const client = await dial(t, port)
  client.write(handshake('/socket'))
  await eventually(() => assert.ok(asked))
  client.socket.destroy()
  await eventually(() => assert.ok(asked?.signal.aborted))
  gate.resolve()
  await server.idle()
  assert.equal(opened, 0)
  assert.deepEqual(
    requests.map(({ status }) => status),
    [499],
  )
  assert.equal((await join(t, port)).ws.readyState, WebSocket.OPEN)
  assert.equal(opened, 1)
})

test(
  'many upgrades that are decided later all open, may subscribe and send at once, and stay open',
  gone,
  async (t) => {
    const { port, server } = await start(t, (server) =>
      server.socket<{ name: string }>({
        ...limits,
        message() {},
        close() {},
        path: '/socket/:name',
        async upgrade(request) {
          await nextTurn()
          return { data: { name: request.params.name! } }
        },
        open(peer) {
          peer.subscribe('all')
          peer.subscribe(peer.data.name)
          assert.ok(peer.send(`hello ${peer.data.name}`))
        },
      }),
    )
    const clients = await Promise.all(Array.from({ length: 200 }, (_, i) => join(t, port, `/socket/${i}`)))
    assert.deepEqual(
      await Promise.all(clients.map((client) => client.next())),
      clients.map((_, i) => `hello ${i}`),
    )
    server.publish('all', 'to all')
    server.publish('7', 'to 7')
    server.publish('all', Buffer.from('again'))
    for (const [i, client] of clients.entries()) {
      assert.equal(await client.next(), 'to all')
      if (i === 7) assert.equal(await client.next(), 'to 7')
      assert.equal(await client.next(), 'again')
    }
    assert.equal([...server.peers()].length, 200)
  },
)

test('a message is a copy: it is intact long after its callback', gone, async (t) => {
  const { port } = await start(t, (server) =>
    server.socket({
      ...quiet,
      async message(peer, bytes, isBinary) {
        for (let i = 0; i < 10; i += 1) await nextTurn()
        peer.send(JSON.stringify([isBinary, bytes.toString()]))
      },
    }),
  )
  const client = await join(t, port)
  for (let i = 0; i < 50; i += 1) client.ws.send(`${i}`.repeat(100))
  client.ws.send(Buffer.from('binary'))
  for (let i = 0; i < 50; i += 1) assert.deepEqual(JSON.parse(await client.next()), [false, `${i}`.repeat(100)])
  assert.deepEqual(JSON.parse(await client.next()), [true, 'binary'])
})

test('a socket handler that throws or rejects closes its own socket with 1011 and no other', gone, async (t) => {
  const { port, logged } = await start(t, (server) =>
    server.socket({
      ...quiet,
      async message(peer, bytes) {
        if (bytes.toString() === 'throw') throw new Error('thrown')
        await nextTurn()
        if (bytes.toString() === 'reject') throw new Error('rejected')
        peer.send('fine')
      },
      close() {
        throw new Error('in close')
      },
    }),
  )
  const healthy = await join(t, port)
  for (const word of ['throw', 'reject']) {
    const client = await join(t, port)
    client.ws.send(word)
    assert.equal((await client.closed).code, 1011)
  }
  healthy.ws.send('hello')
  assert.equal(await healthy.next(), 'fine')
  assert.deepEqual(
    logged.map(({ data }) => (data.error as Error).message),
    ['thrown', 'in close', 'rejected', 'in close'],
  )
})

test('a client sees the code and reason of its end, and after it the peer does nothing', gone, async (t) => {
  const peers: Peer<undefined>[] = []
  const codes: number[] = []
  const { port, server } = await start(t, (server) =>
    server.socket({
      ...quiet,
      open: (peer) => void peers.push(peer),
      close: (peer, code) => {
        assert.ok(peer.closed)
        codes.push(code)
      },
    }),
  )
  const client = await join(t, port)
  const [peer] = peers
  peer!.subscribe('topic')
  peer!.end(4401, 'é'.repeat(100))
  assert.deepEqual(await client.closed, { code: 4401, reason: 'é'.repeat(61) })
  assert.deepEqual(codes, [4401])
  assert.equal(peer!.closed, true)
  assert.equal(peer!.send('x'), false)
  assert.equal(peer!.subscribe('topic'), false)
  assert.equal(peer!.unsubscribe('topic'), false)
  assert.equal(peer!.bufferedAmount(), 0)
  peer!.cork(() => assert.fail('corked a closed peer'))
  peer!.end(1000, '')
  peer!.terminate()
  assert.equal(server.numSubscribers('topic'), 0)
  const other = await join(t, port)
  peers[1]!.cork(() => {
    peers[1]!.send('last words')
    peers[1]!.end(1001, 'bye')
  })
  assert.equal(await other.next(), 'last words')
  assert.equal((await other.closed).code, 1001)
})

test('topics reach their subscribers in order, also when they are left in the same tick', gone, async (t) => {
  const peers: Peer<undefined>[] = []
  const { port, server } = await start(t, (server) =>
    server.socket({ ...quiet, open: (peer) => void peers.push(peer) }),
  )
  const client = await join(t, port)
  assert.ok(peers[0]!.subscribe('a'))
  assert.ok(peers[0]!.subscribe('b'))
  server.publish('a', '1')
  server.publish('b', '2')
  peers[0]!.send('3')
  server.publish('a', '4')
  assert.ok(peers[0]!.unsubscribe('a'))
  assert.equal(server.publish('a', 'nobody'), false)
  server.publish('b', '5')
  for (const expected of ['1', '2', '3', '4', '5']) assert.equal(await client.next(), expected)
})

test(
  'a peer that does not read is reported, outside the publish, and everybody else gets everything',
  gone,
  async (t) => {
    const peers: Peer<undefined>[] = []
    const reports: { peer: Peer<undefined>; count: number; publishing: boolean }[] = []
    let publishing = false
    const { port, server } = await start(t, (server) =>
      server.socket({
        ...quiet,
        open(peer) {
          peers.push(peer)
          peer.subscribe('all')
        },
        dropped(peer, count) {
          reports.push({ peer, count, publishing })
          // What would corrupt memory inside the native callback is safe here.
          peer.unsubscribe('all')
        },
        drain(peer) {
          if (peer === reports[0]?.peer && peer.bufferedAmount() === 0) peer.send('gap')
        },
      }),
    )
    const slow = await join(t, port)
    const healthy = await join(t, port)
    slow.pause()
    let sent = 0
    while (reports.length === 0) {
      assert.ok(sent < 5000, 'nothing was dropped after 100 MB')
      publishing = true
      for (let i = 0; i < 10; i += 1) {
        server.publish('all', `${sent}`.padEnd(20_000))
        sent += 1
      }
      publishing = false
      for (let i = sent - 10; i < sent; i += 1) assert.equal((await healthy.next()).trim(), `${i}`)
    }
    server.publish('all', 'end')
    assert.equal(await healthy.next(), 'end')
    assert.equal(reports.length, 1)
    assert.equal(reports[0]!.peer, peers[0])
    assert.equal(reports[0]!.publishing, false)
    assert.ok(reports[0]!.count >= 1)
    assert.ok(peers[0]!.bufferedAmount() <= quiet.maxBackpressure + 20_100)
    slow.resume()
    let expected = 0
    for (let message = await slow.next(); message !== 'gap'; message = await slow.next()) {
      assert.equal(message.trim(), `${expected}`)
      expected += 1
    }
    assert.ok(expected < sent)
  },
)

test('drops by send are counted in one report a tick', gone, async (t) => {
  const counts: number[] = []
  const peers: Peer<undefined>[] = []
  const { port } = await start(t, (server) =>
    server.socket({
      ...quiet,
      open: (peer) => void peers.push(peer),
      dropped: (_peer, count) => void counts.push(count),
    }),
  )
  const client = await join(t, port)
  client.pause()
  const message = 'x'.repeat(50_000)
  let refused = 0
  for (let i = 0; i < 1000; i += 1) if (!peers[0]!.send(message)) refused += 1
  assert.ok(refused > 0)
  await eventually(() => assert.deepEqual(counts, [refused]))
})

test(
  'shutting down: no new connections, 503 on kept ones, sockets go on, idle waits, close ends the rest',
  gone,
  async (t) => {
    const gate = deferred()
    let handling = false
    const { port, server } = await start(t, (server) => {
      server.http({
        method: 'get',
        path: '/slow',
        async handle() {
          handling = true
          await gate.promise
          return ok('done')
        },
      })
      server.http({ method: 'get', path: '/', handle: () => ok('ok') })
      server.socket({ ...quiet, message: (peer, bytes) => void peer.send(bytes) })
    })
    const socket = await join(t, port)
    const kept = await dial(t, port)
    kept.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    await kept.until('ok')
    const slow = ask(port, { path: '/slow' })
    await eventually(() => assert.ok(handling))

    server.closeListener()
    server.closeListener()
    let idle = false
    const waiting = server.idle().then(() => {
      idle = true
    })
    await assert.rejects(ask(port, { path: '/' }), { code: 'ECONNREFUSED' })
    kept.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    assert.match(
      await kept.until('}}'),
      /^HTTP\/1\.1 503 Service Unavailable\r\n[\s\S]*connection: close\r\n[\s\S]*shutting_down/,
    )
    socket.ws.send('still')
    assert.equal(await socket.next(), 'still')
    assert.equal(idle, false)
    gate.resolve()
    await waiting
    const last = await slow
    assert.equal(last.text, 'done')
    assert.equal(last.headers.connection, 'close')

    server.close()
    server.close()
    assert.equal((await socket.closed).code, 1006)
    await kept.closed
    assert.equal([...server.peers()].length, 0)
    assert.equal(server.publish('any', 'x'), false)
  },
)

test(
  'closing while requests and upgrades are undecided ends them, and their handlers touch nothing later',
  gone,
  async (t) => {
    const gate = deferred()
    let started = 0
    const { port, server } = await start(t, (server) => {
      const wait = async () => {
        started += 1
        await gate.promise
      }
      server.http({ method: 'get', path: '/slow', handle: () => wait().then(() => ok('')) })
      server.socket({ ...quiet, upgrade: () => wait().then(() => ({ data: undefined })) })
    })
    const request = assert.rejects(ask(port, { path: '/slow' }))
    const client = await dial(t, port)
    client.write(handshake('/socket'))
    await eventually(() => assert.equal(started, 2))
    server.close()
    await Promise.all([request, client.closed])
    gate.resolve()
    await server.idle()
    assert.equal([...server.peers()].length, 0)
  },
)

test('each request is reported once, with its route, status and duration', gone, async (t) => {
  const { port, requests } = await start(t, (server) => {
    server.http({ method: 'get', path: '/api/:id', handle: () => ok('') })
    server.socket(quiet)
  })
  await ask(port, { path: '/api/1' })
  await ask(port, { method: 'POST', path: '/api/1' })
  await ask(port, { path: '/x' })
  await join(t, port)
  assert.deepEqual(
    requests.map(({ method, path, status }) => `${method} ${path} ${status}`),
    ['get /api/:id 200', 'post /api/:id 405', 'get * 404', 'get /socket 101'],
  )
  assert.ok(requests.every(({ seconds }) => seconds >= 0 && seconds < 5))
})

const ok = (body: string | Buffer) => ({ status: 200, headers: { 'content-type': 'text/plain' }, body })

const limits = { maxPayload: 100_000, maxBackpressure: 1_000_000, idleTimeout: 60 }

/** A socket route that does nothing, to be overridden. */
const quiet: SocketRoute<undefined> = {
  ...limits,
  path: '/socket',
  upgrade: () => ({ data: undefined }),
  open() {},
  message() {},
  close() {},
}

async function start(t: TestContext, mount: (server: HttpServer) => void) {
  const logged: { name: string; data: Record<string, unknown> }[] = []
  const write = (name: string, data: Record<string, unknown> = {}) => void logged.push({ name, data })
  const log: Log = { debug: write, info: write, warn: write, error: write }
  const requests: { method: string; path: string; status: number; seconds: number }[] = []
  const server = createHttpServer({
    log,
    onRequest: (method, path, status, seconds) => void requests.push({ method, path, status, seconds }),
  })
  t.after(() => server.close())
  mount(server)
  return { server, port: await server.listen('127.0.0.1', 0), log, logged, requests }
}

interface Ask {
  method?: string
  path: string
  headers?: OutgoingHttpHeaders
  body?: Buffer
  chunks?: Buffer[]
  /** Reads the reply only after the server has had time to fill every buffer. */
  pause?: boolean
}

async function ask(port: number, { method = 'GET', path, headers = {}, body, chunks, pause }: Ask) {
  const agent = new Agent({ keepAlive: false })
  const request = httpRequest({ host: '127.0.0.1', port, method, path, headers, agent })
  if (body) request.setHeader('content-length', body.length)
  if (chunks) request.setHeader('transfer-encoding', 'chunked')
  // The server may refuse and close before the body is sent.
  request.on('error', () => {})
  const replied = once(request, 'response') as Promise<[IncomingMessage]>
  for (const chunk of chunks ?? []) await new Promise<void>((done) => request.write(chunk, () => done()))
  request.end(body)
  const [response] = await replied
  if (pause) for (let i = 0; i < 1000; i += 1) await nextTurn()
  const parts: Buffer[] = []
  for await (const part of response) parts.push(part as Buffer)
  const whole = Buffer.concat(parts)
  return {
    status: response.statusCode,
    reason: response.statusMessage,
    headers: response.headers,
    body: whole,
    text: whole.toString(),
  }
}

/** A raw connection: what is written is what is sent. */
async function dial(t: TestContext, port: number) {
  const socket: Socket = connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  let received = ''
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  socket.on('data', (chunk) => {
    received += chunk.toString()
  })
  await once(socket, 'connect')
  return {
    socket,
    closed,
    write: (bytes: string) => void socket.write(bytes),
    /** What came since the last call, up to and with `end`. */
    async until(end: string): Promise<string> {
      await eventually(() => assert.ok(received.includes(end), `no ${end} in ${received}`))
      const at = received.indexOf(end) + end.length
      const result = received.slice(0, at)
      received = received.slice(at)
      return result
    },
  }
}

async function join(t: TestContext, port: number, path = '/socket') {
  const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`)
  t.after(() => ws.terminate())
  const messages: string[] = []
  ws.on('error', () => {})
  ws.on('message', (message) => void messages.push(message.toString()))
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    ws.once('close', (code, reason) => resolve({ code, reason: reason.toString() })),
  )
  await once(ws, 'open')
  return {
    ws,
    closed,
    pause: () => ws.pause(),
    resume: () => ws.resume(),
    async next(): Promise<string> {
      await eventually(() => assert.ok(messages.length > 0, 'no message came'))
      return messages.shift()!
    },
  }
}

function handshake(path: string, more = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${more}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`
}

async function text(response: IncomingMessage): Promise<string> {
  let result = ''
  for await (const part of response) result += String(part)
  return result
}

function deferred() {
  let resolve = () => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

/** Retries an assertion every turn of the event loop; throws its last failure after 20 s: a busy machine takes its time. */
async function eventually(check: () => void): Promise<void> {
  const until = performance.now() + 20_000
  for (;;) {
    try {
      check()
      return
    } catch (error) {
      if (performance.now() > until) throw error
      await nextTurn()
    }
  }
}
