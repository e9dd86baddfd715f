// `npm test`: one PostgreSQL for the run (the embedded one, or TEST_DATABASE_URL where that is set), a migrated template
// database in it, then every test file in a process of its own. `npm test -- test/app/x.test.ts` runs some.

import { spawn, spawnSync } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '../server/log.ts'
import { createCluster } from '../server/postgres/cluster.ts'
import { createTemplate } from './support/database.ts'

async function main(): Promise<number> {
  const given = process.env.TEST_DATABASE_URL
  if (given) return runWith(given)
  const dataDir = await mkdtemp(join(tmpdir(), 'mesher-test-'))
  const log = createLog('warn')
  // fsync off: these tests kill servers, not the machine.
  const settings = { fsync: 'off', full_page_writes: 'off', max_connections: '200' }
  const cluster = createCluster({ dataDir, log, settings })
  try {
    const { databaseUrl } = await cluster.start()
    return await runWith(databaseUrl)
  } finally {
    await cluster.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}

async function runWith(databaseUrl: string): Promise<number> {
  const template = await createTemplate(databaseUrl)
  const files = process.argv.slice(2)
  if (files.length === 0) files.push(...(await testFiles()))
  if (files.some((file) => /\btest.clients\b/.test(file))) installClients()
  const child = spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      '--test',
      '--test-concurrency=2',
      // For a whole file, on a busy machine; a cold build of a client takes minutes.
      `--test-timeout=${files.some((file) => file.includes('languages')) ? 900_000 : 300_000}`,
      '--test-reporter=spec',
      ...files.sort(),
    ],
    { stdio: 'inherit', env: { ...process.env, TEST_DATABASE_URL: databaseUrl, TEST_TEMPLATE: template } },
  )
  // Ctrl-C reaches the child by the terminal; a plain kill does not. Either way the database is stopped afterwards.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  return new Promise((resolve) => child.on('exit', (code) => resolve(code ?? 1)))
}

/** Without a registry the tests that need them are skipped, and say why. */
function installClients() {
  spawnSync(process.execPath, ['server/cli/install.mjs', 'test/clients'], { stdio: 'inherit' })
}

async function testFiles(): Promise<string[]> {
  const entries = await readdir('test', { recursive: true })
  // Sentry's clients have to be fetched, some of them built, first: `npm run clients`.
  const apart = /^clients/
  const files = entries.filter((entry) => entry.endsWith('.test.ts') && !apart.test(entry))
  return files.map((entry) => join('test', entry))
}

process.exitCode = await main()
