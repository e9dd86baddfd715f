// How a server's life begins and ends, as a process: signals, exit codes, the embedded PostgreSQL, what is printed.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, realpath, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { wrongCounts } from '../support/batch.ts'
import { createDatabase, firstStart, query } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { startProcess } from '../support/process.ts'
import { createRandom } from '../support/random.ts'
import { startSenders } from '../support/senders.ts'
import { openStream } from '../support/stream.ts'

interface Facts {
  url: string
  dsn: string
  token: string
  database_url: string
  project_id: string
}

/** A zombie, which nobody has collected yet, does not live. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return process.platform !== 'linux' || readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== ''
  } catch {
    return false
  }
}

/** A data directory for an embedded PostgreSQL; after the test no postgres of it runs and nothing of it is left. */
async function makeDataDir(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'mesher-life-'))
  const dataDir = join(folder, 'data')
  const postmaster = async () => {
    const text = await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').catch(() => '')
    return Number(text.split('\n')[0])
  }
  t.after(async () => {
    const pid = await postmaster()
    if (pid && isAlive(pid)) {
      process.kill(pid, 'SIGQUIT')
      await eventually(() => assert.equal(isAlive(pid), false))
    }
    const place = await realpath(join(dataDir, 'postgres')).catch(() => '')
    await rm(folder, { recursive: true, force: true })
    if (place) await rm(place, { recursive: true, force: true })
  })
  const facts = async () => JSON.parse(await readFile(join(dataDir, 'first-start.json'), 'utf8')) as Facts
  return { dataDir, postmaster, facts }
}

/** Resolves with the status of an upgrade that is refused, or what happened instead. */
function refusal(url: string): Promise<number | string> {
  return new Promise((resolve) => {
    const socket = new WebSocket(url)
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0))
    socket.on('open', () => {
      socket.terminate()
      resolve('open')
    })
  })
}

test('SIGTERM under load: what was acknowledged is stored, streams end with 1001, and the exit code is 0 within 5 s', async (t) => {
  const database = await createDatabase(t)
  const first = await firstStart(database)
  const random = createRandom()
  const server = startProcess(t, { DATABASE_URL: database.url })
  const other = startProcess(t, { DATABASE_URL: database.url })
  const url = await server.url
  const address = `${url.replace('http', 'ws')}/stream/projects/${first.project_id}`
  const client = openStream(t, address, first.token)
  await client.next('subscribed')
  const senders = startSenders(url, first, random)
  for (let n = 0; n < 20; n++) await client.next('event')

  server.child.kill('SIGTERM')
  const { code, reason } = await client.closed
  assert.deepEqual([code, reason], [1001, 'shutting down: come back'])
  assert.ok([503, 'ECONNREFUSED', 'ECONNRESET'].includes(await refusal(address)), 'no new sockets')
  // After SHUTDOWN_TIMEOUT, which is 5 s, it would have been 1.
  assert.deepEqual(await server.exit, { code: 0, signal: null })
  assert.deepEqual(
    server.log().filter((line) => line.level === 'error'),
    [],
  )

  // Only now does anybody send again: what the first server acknowledged has to be there already.
  const promised = [...senders.acknowledged]
  const rows = await database.sql<{ id: string }>("select replace(id::text, '-', '') as id from events")
  const stored = new Set(rows.map((row) => row.id))
  assert.ok(promised.length >= 20)
  assert.deepEqual(
    promised.filter((id) => !stored.has(id)),
    [],
    `acknowledged and not stored, seed ${random.seed}`,
  )
  senders.aim(await other.url)
  await senders.finish()
  assert.deepEqual(senders.wrong, [], 'whoever was refused could send again')
  assert.deepEqual(await wrongCounts(database), [], `seed ${random.seed}`)

  const resumed = openStream(
    t,
    address.replace(url.replace('http', 'ws'), (await other.url).replace('http', 'ws')),
    first.token,
    {
      since: client.cursor(),
    },
  )
  const seen = new Set(client.ofType('event').map((event) => event.data.id))
  await eventually(() => {
    for (const event of resumed.ofType('event')) seen.add(event.data.id)
    const missed = [...senders.sent].filter((id) => !seen.has(id))
    assert.equal(missed.length === 0 || resumed.ofType('resync').length > 0, true, `${missed.length} are missing`)
  })
})

test('A server that is stopping says so on connections that are still open', async (t) => {
  const database = await createDatabase(t)
  const first = await firstStart(database)
  const server = startProcess(t, { DATABASE_URL: database.url, SHUTDOWN_TIMEOUT: '30' })
  const url = await server.url
  const send = (event: object) =>
    fetch(`${url}/api/v1/events?sentry_key=${first.public_key}`, { method: 'POST', body: JSON.stringify(event) })
  const { issue_id } = (await (await send({ message: 'known' })).json()) as { issue_id: string }
  const person = await database.connect()
  await person.query('begin')
  await person.query("update issues set status = 'resolved' where id = $1", [issue_id])
  const ingest = new WebSocket(`${url.replace('http', 'ws')}/ingest?sentry_key=${first.public_key}`)
  const answers: Record<string, unknown>[] = []
  ingest.on('message', (data) => answers.push(JSON.parse(String(data))))
  const closed = new Promise<number>((resolve) => ingest.on('close', resolve))
  await new Promise((resolve) => ingest.on('open', resolve))
  ingest.send('{"message":"waits"}')
  // Held up: the server cannot be done before this is committed.
  const waiting = send({ message: 'waits too' })
  await eventually(() =>
    assert.equal(
      server.log().some((line) => line.name === 'write.blocked'),
      true,
    ),
  )

  server.child.kill('SIGTERM')
  await eventually(() =>
    assert.equal(
      server.log().some((line) => line.name === 'main.stopping'),
      true,
    ),
  )
  ingest.send('{"message":"late","event_id":"late"}')
  await eventually(() => assert.equal(answers.length, 1))
  assert.deepEqual(
    [answers[0]!.status, answers[0]!.code, answers[0]!.id],
    ['rejected', 'shutting_down', 'late'],
    'what is new is refused, with its id',
  )
  assert.equal(server.child.exitCode, null, 'it waits for what it has begun')
  await person.query('commit')
  assert.equal((await waiting).status, 202)
  assert.equal(await closed, 1001)
  assert.deepEqual(
    answers.map((answer) => answer.status),
    ['rejected', 'accepted'],
    'every answer is sent before the socket is closed',
  )
  assert.deepEqual(await server.exit, { code: 0, signal: null })
})

test('A second signal ends the process at once', async (t) => {
  const database = await createDatabase(t)
  const first = await firstStart(database)
  const server = startProcess(t, { DATABASE_URL: database.url, SHUTDOWN_TIMEOUT: '60' })
  const url = await server.url
  const send = (message: string) =>
    fetch(`${url}/api/v1/events?sentry_key=${first.public_key}`, { method: 'POST', body: JSON.stringify({ message }) })
  await send('known')
  const person = await database.connect()
  await person.query('begin')
  await person.query("update issues set status = 'resolved'")
  const waiting = assert.rejects(send('new'), 'nothing was promised')
  await eventually(() =>
    assert.equal(
      server.log().some((line) => line.name === 'write.blocked'),
      true,
    ),
  )
  server.child.kill('SIGINT')
  await eventually(() =>
    assert.equal(
      server.log().some((line) => line.name === 'main.stopping'),
      true,
    ),
  )
  server.child.kill('SIGINT')
  assert.deepEqual(await server.exit, { code: 1, signal: null })
  await waiting
})

test('A shutdown that cannot be finished ends when its time is up', async (t) => {
  const database = await createDatabase(t)
  const first = await firstStart(database)
  const server = startProcess(t, { DATABASE_URL: database.url, SHUTDOWN_TIMEOUT: '1' })
  const url = await server.url
  const send = (message: string) =>
    fetch(`${url}/api/v1/events?sentry_key=${first.public_key}`, { method: 'POST', body: JSON.stringify({ message }) })
  await send('known')
  const person = await database.connect()
  await person.query('begin')
  await person.query("update issues set status = 'resolved'")
  const waiting = assert.rejects(send('new'))
  await eventually(() =>
    assert.equal(
      server.log().some((line) => line.name === 'write.blocked'),
      true,
    ),
  )
  server.child.kill('SIGTERM')
  assert.deepEqual(await server.exit, { code: 1, signal: null })
  assert.ok(server.log().some((line) => line.name === 'main.stop_timed_out'))
  await waiting
})

test('The first start on an empty folder prints and keeps what somebody needs; PostgreSQL stops with the server', async (t) => {
  const { dataDir, postmaster, facts: read } = await makeDataDir(t)
  const server = startProcess(t, { DATA_DIR: dataDir })
  const url = await server.url
  await eventually(() => assert.match(server.stdout(), /npm run sql/))
  const facts = await read()
  assert.deepEqual(Object.keys(facts).sort(), ['database_url', 'dsn', 'project_id', 'token', 'url'])
  assert.equal((await stat(join(dataDir, 'first-start.json'))).mode & 0o777, 0o600)
  assert.equal((await stat(dataDir)).mode & 0o777, 0o700)
  assert.equal(facts.url, url)
  for (const printed of [url, facts.dsn, facts.token, `curl ${url}/api/v1/events`]) {
    assert.ok(server.stdout().includes(printed), `${printed} is printed`)
  }
  assert.ok(server.stdout().split('\n').length < 14, 'in a few quiet lines')
  assert.ok(!server.stderr().includes(facts.token) && !server.stderr().includes(new URL(facts.database_url).password))

  const key = new URL(facts.dsn).username
  const project = new URL(facts.dsn).pathname.slice(1)
  assert.equal(project, facts.project_id)
  const sent = await fetch(`${url}/api/${project}/store/?sentry_key=${key}`, {
    method: 'POST',
    body: '{"message":"hello"}',
  })
  assert.equal(sent.status, 200)
  const listed = await fetch(`${url}/api/v1/projects/${project}/issues`, {
    headers: { authorization: `Bearer ${facts.token}` },
  })
  assert.equal(((await listed.json()) as { data: unknown[] }).data.length, 1)
  assert.deepEqual(await query(facts.database_url, 'select title from issues'), [{ title: 'hello' }])

  const pid = await postmaster()
  assert.ok(isAlive(pid))
  const second = startProcess(t, { DATA_DIR: dataDir })
  assert.deepEqual(await second.exit, { code: 1, signal: null })
  assert.match(second.stderr(), /^mesher: Mesher is already running on this data directory/m)
  assert.equal(
    second
      .stderr()
      .trim()
      .split('\n')
      .filter((line) => !line.startsWith('{')).length,
    1,
    'in one line',
  )
  assert.ok(isAlive(pid), 'the first one keeps its database')
  assert.equal((await fetch(`${url}/readyz`)).status, 200)

  server.child.kill('SIGTERM')
  assert.deepEqual(await server.exit, { code: 0, signal: null })
  assert.equal(isAlive(pid), false, 'PostgreSQL is stopped')
})

test('A postgres that a killed server left behind is taken over, with everything in it', async (t) => {
  const { dataDir, postmaster, facts: read } = await makeDataDir(t)
  const killed = startProcess(t, { DATA_DIR: dataDir })
  await killed.url
  await eventually(() => assert.match(killed.stdout(), /npm run sql/))
  const before = await read()
  const send = async (url: string, message: string) => {
    const key = new URL(before.dsn).username
    return (
      await fetch(`${url}/api/v1/events?sentry_key=${key}`, { method: 'POST', body: JSON.stringify({ message }) })
    ).status
  }
  assert.equal(await send(before.url, 'before'), 202)
  const pid = await postmaster()
  killed.child.kill('SIGKILL')
  await killed.exit
  assert.ok(isAlive(pid), 'its postgres lives on')

  const server = startProcess(t, { DATA_DIR: dataDir })
  const url = await server.url
  assert.equal(await postmaster(), pid, 'the same postgres')
  assert.equal(await send(url, 'after'), 202)
  const titles = await query<{ title: string }>(before.database_url, 'select title from issues order by id')
  assert.deepEqual(
    titles.map((row) => row.title),
    ['before', 'after'],
  )
  await eventually(() => assert.match(server.stdout(), /first-start\.json/))
  const after = await read()
  assert.deepEqual(
    [after.url, after.token, after.project_id],
    [url, before.token, before.project_id],
    'the facts stay true',
  )
  assert.equal((await stat(join(dataDir, 'first-start.json'))).mode & 0o777, 0o600)
  assert.ok(!server.stdout().includes(before.token), 'the token is shown once')
  server.child.kill('SIGTERM')
  assert.deepEqual(await server.exit, { code: 0, signal: null })
  assert.equal(isAlive(pid), false)
})

test('A bad value in the environment is named in one line before anything starts', async (t) => {
  const { dataDir } = await makeDataDir(t)
  const server = startProcess(t, { DATA_DIR: dataDir, PORT: 'eighty', WRITERS: '0' })
  assert.deepEqual(await server.exit, { code: 1, signal: null })
  assert.match(server.stderr(), /^mesher: PORT is "eighty", but must be a whole number[^\n]*WRITERS[^\n]*\n$/)
  await assert.rejects(stat(dataDir), { code: 'ENOENT' })
})

test('A port that is taken is said in one line, and the database is stopped again', async (t) => {
  const database = await createDatabase(t)
  const first = startProcess(t, { DATABASE_URL: database.url })
  const { port } = new URL(await first.url)
  const second = startProcess(t, { DATABASE_URL: database.url, PORT: port })
  assert.deepEqual(await second.exit, { code: 1, signal: null })
  const lines = second
    .stderr()
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('{'))
  assert.equal(lines.length, 1, second.stderr())
  assert.match(lines[0]!, new RegExp(`^mesher: .*${port}`))
})

test('A database that cannot be reached is said in one line that does not hold its password', async (t) => {
  const server = startProcess(t, { DATABASE_URL: 'postgres://mesher:top-secret@127.0.0.1:9/mesher' })
  assert.deepEqual(await server.exit, { code: 1, signal: null })
  assert.match(server.stderr(), /^mesher: .*(ECONNREFUSED|refused).*$/m)
  assert.ok(!server.stderr().includes('top-secret'))
})

test('A first start that fails at the port has kept its token, and the next one says where', async (t) => {
  const other = await createDatabase(t)
  const holder = startProcess(t, { DATABASE_URL: other.url })
  const { port } = new URL(await holder.url)
  const database = await createDatabase(t)
  const dataDir = await mkdtemp(join(tmpdir(), 'mesher-data-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  const failed = startProcess(t, { DATABASE_URL: database.url, DATA_DIR: dataDir, PORT: port })
  assert.equal((await failed.exit).code, 1)
  const next = startProcess(t, { DATABASE_URL: database.url, DATA_DIR: dataDir })
  const url = await next.url
  const facts = JSON.parse(await readFile(join(dataDir, 'first-start.json'), 'utf8')) as Facts
  const projects = await fetch(`${url}/api/v1/projects`, { headers: { authorization: `Bearer ${facts.token}` } })
  assert.equal(projects.status, 200)
  await eventually(() => assert.match(next.stdout(), /DSN and token are in .*first-start\.json/))
})

test('A request that never ends does not keep the server from stopping in order', async (t) => {
  const database = await createDatabase(t)
  const first = await firstStart(database)
  const server = startProcess(t, { DATABASE_URL: database.url })
  const { port } = new URL(await server.url)
  const socket = connect(Number(port), '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  socket.write(
    `POST /api/v1/events?sentry_key=${first.public_key} HTTP/1.1\r\nhost: mesher\r\ncontent-length: 100\r\n\r\n{"mess`,
  )
  // What is answered on another connection after it shows that it has arrived.
  await fetch(`http://127.0.0.1:${port}/healthz`)
  server.child.kill('SIGTERM')
  assert.deepEqual(await server.exit, { code: 0, signal: null })
})
