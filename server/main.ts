// The edge of the process: environment, signals, exit code. Everything else is app.ts.

import { randomBytes } from 'node:crypto'
import { createApp } from './app.ts'
import { type Config, parseConfig } from './config.ts'
import { bootstrap, type FirstStart } from './db/bootstrap.ts'
import { migrate } from './db/migrate.ts'
import { createDb, createPool } from './db/pool.ts'
import { firstStartFacts, firstStartText, refreshFirstStart, saveFirstStart } from './first-start.ts'
import { createLog, type Log } from './log.ts'
import { createCluster } from './postgres/cluster.ts'
import type { Service } from './service.ts'

type Part = Pick<Service, 'name' | 'stop'>

async function main(): Promise<void> {
  const config = parseConfig(process.env)
  const log = createLog(config.logLevel)
  const parts: Part[] = []
  stopOnSignals(parts, config.shutdownTimeout, log)
  try {
    await start(config, parts, log)
  } catch (error) {
    log.debug('main.start_failed', { error })
    await stopAll(parts, log)
    throw error
  }
}

async function start(config: Config, parts: Part[], log: Log): Promise<void> {
  const databaseUrl = config.databaseUrl ?? (await startEmbedded(config, parts, log))
  await migrate(databaseUrl, log)
  const first = await firstStart(databaseUrl, log)
  // Before anything that can still fail: the token is known only now.
  if (first) await saveFirstStart(config.dataDir, firstStartFacts(urlFrom(config, config.port), databaseUrl, first))
  // Whoever can open the page first owns the server: at this machine that is its owner, beyond it that has to be shown.
  const setupToken = isLoopback(config.host) ? null : randomBytes(16).toString('hex')
  const app = createApp({ ...config, databaseUrl, setupToken }, { log })
  parts.push(app)
  await app.start()
  const url = urlFrom(config, app.port)
  console.log(`Mesher is running at ${url}`)
  if (first) {
    const facts = firstStartFacts(url, databaseUrl, first)
    console.log(firstStartText(facts, await saveFirstStart(config.dataDir, facts)))
  } else {
    const savedAt = await refreshFirstStart(config.dataDir, url, databaseUrl)
    if (savedAt) console.log(`DSN and token are in ${savedAt}`)
  }
  if (await app.needsSetup()) {
    console.log(`Make the owner's account at ${url}${setupToken ? `  with the set-up token ${setupToken}` : ''}`)
  }
}

/** What this machine can open: an address that stands for all of them is none to connect to. */
function urlFrom(config: Config, port: number): string {
  const { host } = config
  const shown = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host
  return config.publicUrl ?? `http://${shown}:${port}`
}

const isLoopback = (host: string) => host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)

/** The database is the first part, so it is the last to stop. */
async function startEmbedded(config: Config, parts: Part[], log: Log): Promise<string> {
  const cluster = createCluster({ dataDir: config.dataDir, log })
  parts.push({ name: 'postgres', stop: cluster.stop })
  return (await cluster.start()).databaseUrl
}

async function firstStart(databaseUrl: string, log: Log): Promise<FirstStart | null> {
  const pool = createPool(databaseUrl, log)
  try {
    return await bootstrap(createDb(pool))
  } finally {
    await pool.end()
  }
}

async function stopAll(parts: Part[], log: Log): Promise<void> {
  for (const part of parts.toReversed()) {
    await part.stop().catch((error) => log.error('main.stop_failed', { part: part.name, error }))
  }
}

/** The first signal stops in order, within the time-out; a second one exits at once. */
function stopOnSignals(parts: Part[], timeout: number, log: Log): void {
  let stopping = false
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (stopping) process.exit(1)
      stopping = true
      log.info('main.stopping', { signal })
      setTimeout(() => {
        log.error('main.stop_timed_out', { timeout })
        process.exit(1)
      }, timeout).unref()
      stopAll(parts, log).then(() => process.exit(0))
    })
  }
}

try {
  await main()
} catch (error) {
  console.error(`mesher: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(1)
}
