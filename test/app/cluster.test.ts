import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { chmod, lstat, mkdir, mkdtemp, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { createLog } from '../../server/log.ts'
import { type Cluster, createCluster } from '../../server/postgres/cluster.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const isRoot = process.getuid?.() === 0

async function makeDataDir(t: TestContext, mode = 0o755): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mesher-cluster-'))
  const dataDir = join(folder, 'data')
  await chmod(folder, mode)
  t.after(async () => {
    const place = await realpath(join(dataDir, 'postgres')).catch(() => folder)
    const pid = await postmasterPid(dataDir).catch(() => 0)
    if (pid && isAlive(pid)) process.kill(pid, 'SIGQUIT')
    if (pid) await until(() => !isAlive(pid))
    if (place.startsWith('/var/lib/mesher/')) await rm(place, { recursive: true })
    await rm(folder, { recursive: true })
  })
  return dataDir
}

interface Watched extends Cluster {
  lines: string[]
}

function clusterOf(t: TestContext, dataDir: string): Watched {
  const lines: string[] = []
  const log = createLog('debug', (line) => lines.push(line))
  const cluster = createCluster({ dataDir, log, settings: { fsync: 'off' } })
  t.after(() => cluster.stop())
  return { ...cluster, lines }
}

async function query<R extends pg.QueryResultRow>(connectionString: string, sql: string): Promise<R[]> {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<R>(sql)).rows
  } finally {
    await client.end()
  }
}

async function postmasterPid(dataDir: string): Promise<number> {
  return Number((await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0])
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 15_000; !(await check()); await new Promise((done) => setTimeout(done, 20))) {
    assert.ok(Date.now() < end, `still not: ${check}`)
  }
}

/** A Mesher of its own process, as far as the database goes: prints the address and stays. */
async function startElsewhere(t: TestContext, dataDir: string): Promise<{ child: ChildProcess; databaseUrl: string }> {
  const code = `
    import { createCluster } from './server/postgres/cluster.ts'
    import { createLog } from './server/log.ts'
    const log = createLog('error')
    const cluster = createCluster({ dataDir: ${JSON.stringify(dataDir)}, log, settings: { fsync: 'off' } })
    console.log((await cluster.start()).databaseUrl)
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', code], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  for await (const chunk of child.stdout!) return { child, databaseUrl: String(chunk).trim() }
  throw new Error('the other process ended')
}

test('the embedded PostgreSQL starts in an empty folder, closed to others, and keeps its data and address', async (t) => {
  const dataDir = await makeDataDir(t)
  const first = clusterOf(t, dataDir)
  const { databaseUrl } = await first.start()
  assert.match(databaseUrl, /^postgres:\/\/mesher:[\w-]{32}@127\.0\.0\.1:\d+\/mesher$/)
  await query(databaseUrl, 'create table kept as select 42 as answer')
  const [facts] = await query<Record<string, string>>(
    databaseUrl,
    `select current_setting('listen_addresses') as addresses, current_setting('data_checksums') as checksums,
       current_setting('password_encryption') as passwords, current_setting('timezone') as zone,
       (select datlocprovider::text || datlocale from pg_database where datname = 'mesher') as locale,
       pg_encoding_to_char(encoding) as encoding from pg_database where datname = 'mesher'`,
  )
  assert.deepEqual(facts, {
    addresses: '127.0.0.1',
    checksums: 'on',
    passwords: 'scram-sha-256',
    zone: 'UTC',
    locale: 'bC.UTF-8',
    encoding: 'UTF8',
  })
  assert.equal((await stat(dataDir)).mode & 0o777, 0o700)
  assert.equal((await stat(join(dataDir, 'postgres-password'))).mode & 0o777, 0o600)
  assert.ok((await lstat(join(dataDir, 'postgres'))).isDirectory())
  const pid = await postmasterPid(dataDir)
  await first.stop()
  assert.equal(isAlive(pid), false)

  const second = clusterOf(t, dataDir)
  assert.equal((await second.start()).databaseUrl, databaseUrl)
  assert.deepEqual(await query(databaseUrl, 'select answer from kept'), [{ answer: 42 }])
})

test('a second start on the same data directory says so and leaves the first alone', async (t) => {
  const dataDir = await makeDataDir(t)
  const { databaseUrl } = await clusterOf(t, dataDir).start()
  const second = clusterOf(t, dataDir)
  await assert.rejects(second.start(), (error: Error) => {
    assert.equal(
      error.message,
      `Mesher is already running on this data directory (${dataDir}): stop it, or set DATA_DIR to another folder.`,
    )
    return true
  })
  await second.stop()
  assert.equal((await query(databaseUrl, 'select 1')).length, 1)
})

test('of two first starts at once one wins, and the other says that Mesher is already running', async (t) => {
  const dataDir = await makeDataDir(t)
  const results = await Promise.allSettled([clusterOf(t, dataDir).start(), clusterOf(t, dataDir).start()])
  const won = results.find((result) => result.status === 'fulfilled')
  const lost = results.find((result) => result.status === 'rejected')
  assert.match(lost?.reason.message, /already running/)
  assert.equal((await query(won!.value.databaseUrl, 'select 1')).length, 1)
})

test('a postgres left behind by a killed server is taken over', async (t) => {
  const dataDir = await makeDataDir(t)
  const { child, databaseUrl } = await startElsewhere(t, dataDir)
  const pid = await postmasterPid(dataDir)
  child.kill('SIGKILL')
  const next = clusterOf(t, dataDir)
  assert.equal((await next.start()).databaseUrl, databaseUrl)
  assert.equal(await postmasterPid(dataDir), pid)
  await next.stop()
  await until(() => !isAlive(pid))
})

test('a postgres that is killed is started again on the same port, also one that was taken over', async (t) => {
  const dataDir = await makeDataDir(t)
  const { child, databaseUrl } = await startElsewhere(t, dataDir)
  child.kill('SIGKILL')
  const cluster = clusterOf(t, dataDir)
  await cluster.start()
  await query(databaseUrl, 'create table kept as select 42 as answer')
  for (let round = 1; round <= 2; round++) {
    process.kill(await postmasterPid(dataDir), 'SIGKILL')
    await until(() => cluster.lines.filter((line) => line.includes('cluster.recovered')).length === round)
    assert.deepEqual(await query(databaseUrl, 'select answer from kept'), [{ answer: 42 }])
  }
  await assert.rejects(clusterOf(t, dataDir).start(), /already running/)
})

test('a terminated lock connection is taken again without touching postgres', async (t) => {
  const dataDir = await makeDataDir(t)
  const cluster = clusterOf(t, dataDir)
  const { databaseUrl } = await cluster.start()
  const pid = await postmasterPid(dataDir)
  await query(
    databaseUrl,
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'mesher lock'",
  )
  await until(() => cluster.lines.some((line) => line.includes('cluster.recovered')))
  assert.equal(await postmasterPid(dataDir), pid)
})

test('a pid file that names a process of somebody else does not keep postgres from starting', async (t) => {
  const dataDir = await makeDataDir(t)
  const first = clusterOf(t, dataDir)
  const { databaseUrl } = await first.start()
  const pidFile = join(dataDir, 'postgres', 'postmaster.pid')
  const left = await readFile(pidFile, 'utf8')
  await first.stop()
  await writeFile(pidFile, left.replace(/^\d+/, String(process.pid)))
  assert.equal((await clusterOf(t, dataDir).start()).databaseUrl, databaseUrl)
})

test('a port that somebody else took meanwhile is replaced', async (t) => {
  const dataDir = await makeDataDir(t)
  const first = clusterOf(t, dataDir)
  const { port } = new URL((await first.start()).databaseUrl)
  await first.stop()
  const other = createServer()
  await new Promise<void>((done) => other.listen(Number(port), '127.0.0.1', done))
  t.after(() => other.close())
  const { databaseUrl } = await clusterOf(t, dataDir).start()
  assert.notEqual(new URL(databaseUrl).port, port)
  assert.equal((await query(databaseUrl, 'select 1')).length, 1)
})

test('a data directory below a folder that is closed to others works, as root too', async (t) => {
  const dataDir = await makeDataDir(t, 0o700)
  const cluster = clusterOf(t, dataDir)
  const { databaseUrl } = await cluster.start()
  assert.equal((await query(databaseUrl, 'select 1')).length, 1)
  const place = await realpath(join(dataDir, 'postgres'))
  assert.equal(dirname(place), isRoot ? '/var/lib/mesher' : dataDir)
  assert.equal((await stat(place)).mode & 0o777, 0o700)
  assert.equal((await stat(dirname(dataDir))).mode & 0o777, 0o700)
  await cluster.stop()
  assert.equal((await clusterOf(t, dataDir).start()).databaseUrl, databaseUrl)
})

test('a folder with other things in it keeps its owner and mode when it is made the data directory', async (t) => {
  const dataDir = await makeDataDir(t)
  await mkdir(dataDir)
  await chmod(dataDir, 0o755)
  await writeFile(join(dataDir, 'letter.txt'), 'mine')
  await clusterOf(t, dataDir).start()
  const { mode, uid } = await stat(dataDir)
  assert.equal(mode & 0o777, 0o755)
  assert.equal(uid, process.getuid?.())
})

test('what cannot work is said in one sentence: a lost database, a lost password, a bad setting', async (t) => {
  const dataDir = await makeDataDir(t)
  await mkdir(dataDir)
  await symlink(join(dataDir, 'gone'), join(dataDir, 'postgres'))
  await assert.rejects(clusterOf(t, dataDir).start(), /is a link to a database that is gone: bring it back/)
  await rm(join(dataDir, 'postgres'))
  const working = clusterOf(t, dataDir)
  await working.start()
  await working.stop()
  await rm(join(dataDir, 'postgres-password'))
  await assert.rejects(clusterOf(t, dataDir).start(), /postgres-password is missing, but the database in/)
  await writeFile(join(dataDir, 'postgres-password'), 'wrong')
  await assert.rejects(clusterOf(t, dataDir).start(), /does not accept the password in postgres-password/)
})

test('stop may come before start, during it, and twice', async (t) => {
  const dataDir = await makeDataDir(t)
  await clusterOf(t, dataDir).stop()
  const cluster = clusterOf(t, dataDir)
  const starting = cluster.start()
  starting.catch(() => {})
  await Promise.all([cluster.stop(), cluster.stop()])
  const pid = await postmasterPid(dataDir).catch(() => 0)
  assert.equal(pid !== 0 && isAlive(pid), false)
})
