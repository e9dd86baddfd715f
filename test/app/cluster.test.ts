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

interface Watched extends Cluster {
  lines: string[]
}

interface Stage {
  dataDir: string
  cluster(): Watched
}

/** A folder that does not exist yet in one that does, and any number of clusters on it; all gone after the test. */
async function makeStage(t: TestContext, mode = 0o755): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'mesher-cluster-'))
  const dataDir = join(folder, 'data')
  const clusters: Cluster[] = []
  await chmod(folder, mode)
  t.after(async () => {
    await Promise.all(clusters.map((cluster) => cluster.stop()))
    // A postgres whose owner was killed and that nobody took over.
    const pid = await postmasterPid(dataDir).catch(() => 0)
    if (pid && isAlive(pid)) {
      process.kill(pid, 'SIGQUIT')
      await until(() => !isAlive(pid))
    }
    const place = await realpath(join(dataDir, 'postgres')).catch(() => '')
    if (place.startsWith('/var/lib/mesher/')) await rm(place, { recursive: true })
    await rm(folder, { recursive: true })
  })
  return {
    dataDir,
    cluster() {
      const lines: string[] = []
      const log = createLog('debug', (line) => lines.push(line))
      const cluster = createCluster({ dataDir, log, settings: { fsync: 'off' } })
      clusters.push(cluster)
      return { ...cluster, lines }
    },
  }
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
  const { dataDir, cluster: make } = await makeStage(t)
  const first = make()
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

  const second = make()
  assert.equal((await second.start()).databaseUrl, databaseUrl)
  assert.deepEqual(await query(databaseUrl, 'select answer from kept'), [{ answer: 42 }])
})

test('a second start on the same data directory says so and leaves the first alone', async (t) => {
  const { dataDir, cluster: make } = await makeStage(t)
  const { databaseUrl } = await make().start()
  const second = make()
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
  const { cluster: make } = await makeStage(t)
  const results = await Promise.allSettled([make().start(), make().start()])
  const won = results.find((result) => result.status === 'fulfilled')
  const lost = results.find((result) => result.status === 'rejected')
  assert.match(lost?.reason.message, /already running/)
  assert.equal((await query(won!.value.databaseUrl, 'select 1')).length, 1)
})

test('a postgres left behind by a killed server is taken over', async (t) => {
  const { dataDir, cluster: make } = await makeStage(t)
  const { child, databaseUrl } = await startElsewhere(t, dataDir)
  const pid = await postmasterPid(dataDir)
  child.kill('SIGKILL')
  const next = make()
  assert.equal((await next.start()).databaseUrl, databaseUrl)
  assert.equal(await postmasterPid(dataDir), pid)
  await next.stop()
  await until(() => !isAlive(pid))
})

test('a postgres that is killed is started again on the same port, also one that was taken over', async (t) => {
  const { dataDir, cluster: make } = await makeStage(t)
  const { child, databaseUrl } = await startElsewhere(t, dataDir)
  child.kill('SIGKILL')
  const cluster = make()
  await cluster.start()
  await query(databaseUrl, 'create table kept as select 42 as answer')
  for (let round = 1; round <= 2; round++) {
    process.kill(await postmasterPid(dataDir), 'SIGKILL')
    await until(() => cluster.lines.filter((line) => line.includes('cluster.recovered')).length === round)
    assert.deepEqual(await query(databaseUrl, 'select answer from kept'), [{ answer: 42 }])
  }
  await assert.rejects(make().start(), /already running/)
})

test('a terminated lock connection is taken again without touching postgres', async (t) => {
  const { dataDir, cluster: make } = await makeStage(t)
  const cluster = make()
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
  const { dataDir, cluster: make } = await makeStage(t)
  const first = make()
  const { databaseUrl } = await first.start()
  const pidFile = join(dataDir, 'postgres', 'postmaster.pid')
  const left = await readFile(pidFile, 'utf8')
  await first.stop()
  await writeFile(pidFile, left.replace(/^\d+/, String(process.pid)))
  assert.equal((await make().start()).databaseUrl, databaseUrl)
})

test('a port that somebody else took meanwhile is replaced', async (t) => {
  const { cluster: make } = await makeStage(t)
  const first = make()
  const { port } = new URL((await first.start()).databaseUrl)
  await first.stop()
  const other = createServer()
  await new Promise<void>((done) => other.listen(Number(port), '127.0.0.1', done))
  t.after(() => other.close())
  const { databaseUrl } = await make().start()
  assert.notEqual(new URL(databaseUrl).port, port)
  assert.equal((await query(databaseUrl, 'select 1')).length, 1)
})

test('a data directory below a folder that is closed to others works, as root too', async (t) => {
  const { dataDir, cluster: make } = await makeStage(t, 0o700)
  const cluster = make()
  const { databaseUrl } = await cluster.start()
  assert.equal((await query(databaseUrl, 'select 1')).length, 1)
  const place = await realpath(join(dataDir, 'postgres'))
  assert.equal(dirname(place), isRoot ? '/var/lib/mesher' : dataDir)
  assert.equal((await stat(place)).mode & 0o777, 0o700)
  assert.equal((await stat(dirname(dataDir))).mode & 0o777, 0o700)
  await cluster.stop()
  assert.equal((await make().start()).databaseUrl, databaseUrl)
})

test('a folder with other things in it keeps its owner and mode when it is made the data directory', async (t) => {
  const { dataDir, cluster: make } = await makeStage(t)
  await mkdir(dataDir)
  await chmod(dataDir, 0o755)
  await writeFile(join(dataDir, 'letter.txt'), 'mine')
  await make().start()
  const { mode, uid } = await stat(dataDir)
  assert.equal(mode & 0o777, 0o755)
  assert.equal(uid, process.getuid?.())
})

test('what cannot work is said in one sentence: a lost database, a lost password, a wrong one', async (t) => {
  const { dataDir, cluster: make } = await makeStage(t)
  await mkdir(dataDir)
  await symlink(join(dataDir, 'gone'), join(dataDir, 'postgres'))
  await assert.rejects(make().start(), /is a link to a database that is gone: bring it back/)
  await rm(join(dataDir, 'postgres'))
  const working = make()
  await working.start()
  await working.stop()
  await rm(join(dataDir, 'postgres-password'))
  await assert.rejects(make().start(), /postgres-password is missing, but the database in/)
  await writeFile(join(dataDir, 'postgres-password'), 'wrong')
  await assert.rejects(make().start(), /does not accept the password in postgres-password/)
})

test('stop may come before start, during it, and twice', async (t) => {
  const { dataDir, cluster: make } = await makeStage(t)
  await make().stop()
  const cluster = make()
  const starting = cluster.start()
  starting.catch(() => {})
  await Promise.all([cluster.stop(), cluster.stop()])
  const pid = await postmasterPid(dataDir).catch(() => 0)
  assert.equal(pid !== 0 && isAlive(pid), false)
})
