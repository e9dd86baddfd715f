// mesher <command>: everything that is done from a terminal. Commands that change the database talk to it, as SQL by hand does, so
// they work without a server; `tail` and `wait` are clients of the stream like any other.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError, Option } from 'commander'
import { roles, scopes } from '../access/access.ts'
import { migrate } from '../db/migrate.ts'
import { createDb, createPool, type Db } from '../db/pool.ts'
import { AppError } from '../errors.ts'
import { createLog } from '../log.ts'
import { levels, type ServerMessage } from '../protocol.ts'
import { findDatabase, findServer, type ServerFacts } from './facts.ts'
import { follow } from './follow.ts'
import { lineOf } from './lines.ts'
import * as people from './people.ts'

const program = new Command('mesher').description('A live error tracker').showHelpAfterError().enablePositionalOptions()

const say = (text: string) => void process.stdout.write(`${text}\n`)
const note = (text: string) => void process.stderr.write(`${text}\n`)
const list = (value: string, before: string[] = []) => [...before, value]
const level = () =>
  new Option('--level <level>', 'only events of this level; may be given more than once').argParser(
    (value: string, before: string[] | undefined) => {
      if (!(levels as readonly string[]).includes(value))
        throw new InvalidArgumentError(`It is one of ${levels.join(', ')}.`)
      return list(value, before)
    },
  )
const organizationOption = ['--organization <slug>', 'when there is more than one'] as const

async function onDatabase<T>(work: (db: Db) => Promise<T>): Promise<T> {
  const pool = createPool(await findDatabase(process.env), createLog('error'), {
    applicationName: 'mesher command',
    max: 1,
  })
  try {
    return await work(createDb(pool))
  } finally {
    await pool.end()
  }
}

/** The address of the server as far as it is known here, for links. */
async function linkTo(path: string): Promise<string> {
  const url = process.env.PUBLIC_URL || (await findServer(process.env, {}).catch(() => null))?.url
  return url ? `${url.replace(/\/+$/, '')}/#/${path}` : `/#/${path}  (on the address of your server)`
}

async function dsnOf(projectId: string, publicKey: string): Promise<string> {
  const base = process.env.PUBLIC_URL || (await findServer(process.env, {}).catch(() => null))?.url
  if (!base) return publicKey
  const dsn = new URL(`${base.replace(/\/+$/, '')}/${projectId}`)
  dsn.username = publicKey
  return dsn.href
}

/** Two folders above this file, and above the one that is built of it. */
const root = fileURLToPath(new URL('../..', import.meta.url))

/** Another program of Mesher, in a process of its own with this terminal. */
function run(args: string[]): void {
  const child = spawn(process.execPath, args, { stdio: 'inherit' })
  // Ctrl-C reaches the child by the terminal, a plain kill does not; either way it is the child that ends first.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? (signal === null ? 0 : 1)
  })
}

program
  .command('start')
  .description('start the server, as npm start does')
  .action(() => run(['--max-semi-space-size=32', join(root, 'server/cli/start.mjs')]))

program
  .command('sql')
  .description('run SQL on the database')
  .argument('[arguments...]')
  .passThroughOptions()
  .allowUnknownOption()
  .helpOption(false)
  .action((args: string[]) => run(['--import', import.meta.resolve('tsx'), join(root, 'server/cli/sql.ts'), ...args]))

program
  .command('migrate')
  .description('bring the database to this version, without starting')
  .action(async () => {
    await migrate(await findDatabase(process.env), createLog('info'))
    say('The database is up to date.')
  })

const user = program.command('user').description('accounts of people')
user
  .command('create')
  .argument('<email>')
  .option('--name <name>')
  .addOption(new Option('--role <role>', 'in the organization').choices([...roles]).default('member'))
  .option(...organizationOption)
  .description('make an account, and print the link with which its password is chosen')
  .action((email: string, options) =>
    onDatabase(async (db) => say(await linkTo(`reset/${await people.addUser(db, { email, ...options })}`))),
  )
user
  .command('reset')
  .argument('<email>')
  .description('print a link with which a new password is chosen, once, within a day')
  .action((email: string) => onDatabase(async (db) => say(await linkTo(`reset/${await people.resetUser(db, email)}`))))

const project = program.command('project').description('projects and their DSN keys')
project
  .command('create')
  .argument('<slug>')
  .option('--name <name>')
  .option(...organizationOption)
  .description('make a project, and print its DSN')
  .action((slug: string, { name = slug, organization }) =>
    onDatabase(async (db) => {
      const made = await people.addProject(db, { slug, name, organization })
      for (const key of made.keys) say(await dsnOf(made.project.id, key.public_key))
    }),
  )
project
  .command('keys')
  .argument('<project>', 'id or slug')
  .option('--create <label>', 'make another key')
  .option('--revoke <key>', 'revoke a key for good')
  .description('print the DSN keys of a project')
  .action((name: string, options: { create?: string; revoke?: string }) =>
    onDatabase(async (db) => {
      if (options.create !== undefined) await people.addKey(db, name, options.create)
      if (options.revoke !== undefined) await people.revokeKey(db, name, options.revoke)
      const { project: found, keys } = await people.listKeys(db, name)
      for (const { public_key, label, revoked_at } of keys) {
        say(`${await dsnOf(found.id, public_key)}  ${label}${revoked_at ? '  (revoked)' : ''}`)
      }
    }),
  )

const token = program.command('token').description('API tokens')
token
  .command('create')
  .argument('<name>')
  .addOption(new Option('--scope <scope>').choices([...scopes]).default('read'))
  .option('--project <project>', 'this project alone')
  .option(...organizationOption)
  .description('make a token, and print it: it is shown once')
  .action((name: string, options) =>
    onDatabase(async (db) => say((await people.addToken(db, { name, ...options })).text)),
  )
token
  .command('list')
  .option(...organizationOption)
  .description('print the tokens that are in force, without their secrets')
  .action((options: { organization?: string }) =>
    onDatabase(async (db) => {
      for (const { id, name, hint, scope, last_used_at } of await people.listTokens(db, options.organization)) {
        say(`${id}  ${hint}…  ${scope}  ${name}  ${last_used_at ? `used ${last_used_at.toISOString()}` : 'never used'}`)
      }
    }),
  )
token
  .command('revoke')
  .argument('<id>')
  .description('revoke a token; its open streams close')
  .action((id: string) => onDatabase((db) => people.revokeToken(db, id)))

interface StreamFlags {
  url?: string
  token?: string
  project?: string
  level?: string[]
  environment?: string[]
  since?: string
  json?: boolean
}

function streamCommand(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--project <project>', 'id or slug; the first project when it is not given')
    .addOption(level())
    .option('--environment <name>', 'only events of this environment; may be given more than once', list)
    .option('--since <cursor>', 'go on from here')
    .option('--json', 'one message of the stream a line, as it was sent')
    .option('--url <url>', 'the server; else MESHER_URL, else first-start.json')
    .option('--token <token>', 'an API token; else MESHER_TOKEN, else first-start.json')
}

async function projectOf(server: ServerFacts, given: string | undefined): Promise<string> {
  if (given !== undefined) return given
  if (server.project_id !== null) return server.project_id
  const response = await fetch(`${server.url}/api/v1/projects`, {
    headers: { authorization: `Bearer ${server.token}` },
  })
  const body = (await response.json()) as { data?: { id: string }[]; error?: { message: string } }
  if (body.error) throw new AppError('unauthenticated', body.error.message)
  if (!body.data?.[0]) throw new AppError('not_found', 'This token may see no project.')
  return body.data[0].id
}

async function followWith(flags: StreamFlags, signal: AbortSignal, onMessage: (message: ServerMessage) => void) {
  const server = await findServer(process.env, flags)
  return follow({
    server,
    project: await projectOf(server, flags.project),
    level: flags.level ?? [],
    environment: flags.environment ?? [],
    since: flags.since,
    signal,
    onMessage,
    onLost: (reason, wait) => note(`mesher: ${reason}; back in ${(wait / 1000).toFixed(1)} s`),
  })
}

function abortOnSignals(): AbortController {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => controller.abort())
  return controller
}

const colours = () => process.stdout.isTTY === true && !process.env.NO_COLOR

streamCommand('tail', 'the live stream of a project, until Ctrl-C').action(async (flags: StreamFlags) => {
  const cursor = await followWith(flags, abortOnSignals().signal, (message) => {
    if (message.type === 'subscribed') note(`mesher: live, ${message.unresolved} unresolved`)
    const line = flags.json ? JSON.stringify(message) : lineOf(message, { colours: colours() })
    if (line !== null) say(line)
  })
  if (cursor !== '') note(`mesher: go on with --since ${cursor}`)
})

streamCommand('wait', 'wait for the next event or new issue; exit code 0 when it came, 1 when the time is over')
  .addOption(new Option('--for <what>').choices(['event', 'issue']).default('event'))
  .option('--match <text>', 'only when the title holds this text')
  .option('--timeout <seconds>', 'how long to wait', seconds, 60)
  .action(async (flags: StreamFlags & { for: 'event' | 'issue'; match?: string; timeout: number }) => {
    const controller = abortOnSignals()
    let found = false
    const timer = setTimeout(() => controller.abort(), flags.timeout * 1000)
    try {
      await followWith(flags, controller.signal, (message) => {
        if (message.type === 'subscribed') note('mesher: waiting')
        if (found || !matches(message, flags)) return
        found = true
        say(flags.json ? JSON.stringify(message) : lineOf(message, { colours: colours() })!)
        controller.abort()
      })
    } finally {
      clearTimeout(timer)
    }
    if (!found) process.exitCode = 1
  })

function seconds(text: string): number {
  if (!/^\d{1,6}(\.\d+)?$/.test(text)) throw new InvalidArgumentError('It is a number of seconds.')
  return Number(text)
}

function matches(message: ServerMessage, flags: { for: string; match?: string }): boolean {
  const title =
    message.type === 'event' && flags.for === 'event'
      ? message.data.title
      : message.type === 'issue' && flags.for === 'issue' && message.action === 'created'
        ? message.issue?.title
        : undefined
  return title?.includes(flags.match ?? '') ?? false
}

try {
  await program.parseAsync()
} catch (error) {
  note(`mesher: ${sentence(error)}`)
  process.exitCode = 2
}

function sentence(error: unknown): string {
  if ((error as { code?: unknown }).code === 'ECONNREFUSED') return 'nothing answers there: is Mesher running?'
  return error instanceof Error ? error.message : String(error)
}
