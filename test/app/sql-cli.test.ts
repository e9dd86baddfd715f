import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { createLog } from '../../server/log.ts'
import { type Cluster, createCluster } from '../../server/postgres/cluster.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const suffix = randomBytes(4).toString('hex')
const role = `Ann O'Neil ${suffix}`
const database = `mesher_sql_${suffix}`

let folder: string
let cluster: Cluster | undefined
let admin: pg.Client
let databaseUrl: string

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mesher-sql-'))
  // Open, so that a run as root leaves nothing outside this folder.
  await chmod(folder, 0o755)
  let server = process.env.TEST_DATABASE_URL
  if (!server) {
    cluster = createCluster({ dataDir: join(folder, 'data'), log: createLog('error'), settings: { fsync: 'off' } })
    server = (await cluster.start()).databaseUrl
  }
  admin = new pg.Client({ connectionString: server })
  await admin.connect()
  await admin.query(`create database ${database}`)
  const url = new URL(server)
  url.pathname = database
  databaseUrl = url.href
  const ready = await sql([
    "create table issues (id int, title text, status text); insert into issues values (1, 'first', 'unresolved')",
  ])
  assert.equal(ready.code, 0, ready.stderr)
})

after(async () => {
  await admin?.query(`drop database if exists ${database} with (force)`)
  await admin?.query(`drop role if exists ${pg.escapeIdentifier(role)}`)
  await admin?.end()
  await cluster?.stop()
  await rm(folder, { recursive: true, force: true })
})

async function sql(args: string[], { input = '', env = {} }: { input?: string; env?: Record<string, string> } = {}) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'server/cli/sql.ts', ...args], {
    cwd: root,
    env: { ...process.env, DATABASE_URL: databaseUrl, DATA_DIR: folder, ...env },
  })
  child.stdin.end(input)
  const closed = new Promise<number | null>((done) => child.once('close', done))
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), closed])
  return { stdout, stderr, code }
}

test('npm run sql prints rows as psql does', async () => {
  const { stdout, stderr, code } = await sql([
    "select n, word from (values (1, 'one'), (20, 'two' || chr(10) || 'lines'), (null, 'ünï')) as t(n, word)",
  ])
  assert.equal(stderr, '')
  assert.equal(code, 0)
  assert.deepEqual(stdout.split('\n'), [
    ' n  | word',
    '----+-------',
    '  1 | one',
    ' 20 | two  +',
    '    | lines',
    '    | ünï',
    '(3 rows)',
    '',
  ])
})

test('npm run sql runs several statements and prints what each did', async () => {
  const statements = `create temp table t (a int); insert into t values (1), (2);
    update t set a = 3 where a = 1 returning a; select a from t where false`
  const { stdout, code } = await sql([statements])
  assert.equal(code, 0)
  assert.equal(stdout, 'CREATE\nINSERT 0 2\n a\n---\n 3\n(1 row)\nUPDATE 1\n a\n---\n(0 rows)\n')
})

test('npm run sql reads standard input when it is given no statement', async () => {
  const { stdout, code } = await sql([], { input: 'select 42 as answer;\n' })
  assert.equal(code, 0)
  assert.match(stdout, /^ answer\n-+\n +42\n\(1 row\)\n$/)
})

test('npm run sql says an error with its SQLSTATE and exits with 1', async () => {
  const { stdout, stderr, code } = await sql(['select 1 / 0'])
  assert.equal(code, 1)
  assert.equal(stdout, '')
  assert.equal(stderr, 'ERROR: division by zero (SQLSTATE 22012)\n')
})

test('npm run sql prints notices on standard error', async () => {
  const { stdout, stderr } = await sql(["do $$ begin raise notice 'look here'; end $$"])
  assert.equal(stderr, 'NOTICE: look here\n')
  assert.equal(stdout, 'DO\n')
})

test('npm run sql --user makes the role once, which may change issues and nothing else', async () => {
  const first = await sql(['--user', role, "update issues set status = 'resolved' where id = 1"])
  assert.equal(first.stdout, 'UPDATE 1\n')
  assert.equal(first.stderr, `Created role "${role}": it may read everything and insert, update and delete issues.\n`)
  const second = await sql(['--user', role, 'select session_user as who, status from issues'])
  assert.equal(second.stderr, '')
  assert.match(second.stdout, new RegExp(`${role} +\\| resolved`))
  const third = await sql(['--user', role, 'truncate issues'])
  assert.equal(third.code, 1)
  assert.match(third.stderr, /permission denied for table issues \(SQLSTATE 42501\)/)
})

test('npm run sql finds the database in first-start.json when DATABASE_URL is not set', async () => {
  await writeFile(join(folder, 'first-start.json'), JSON.stringify({ database_url: databaseUrl }))
  const { stdout } = await sql(['select current_database() as name'], { env: { DATABASE_URL: '' } })
  assert.match(stdout, new RegExp(database))
})

test('npm run sql says in one line that there is no database', async () => {
  const { stderr, code } = await sql(['select 1'], { env: { DATABASE_URL: '', DATA_DIR: join(folder, 'none') } })
  assert.equal(code, 1)
  assert.match(stderr, /^No database: DATABASE_URL is not set, and .*first-start\.json names none[^\n]*\n$/)
})

test('npm run sql says in one line that the database does not answer', async () => {
  const { stderr, code } = await sql(['select 1'], { env: { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' } })
  assert.equal(code, 1)
  assert.match(stderr, /^PostgreSQL does not answer at 127\.0\.0\.1:1\.[^\n]*\n$/)
})
