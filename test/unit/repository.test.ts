// What must not get into the repository: traces of the machine it was written on, and versions that move.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const readJson = (path: string) => JSON.parse(read(path)) as unknown

// Walked and not asked of git, which a machine that runs the tests may not have.
const ignored = read('.gitignore').split('\n').filter(Boolean)
const files = [...filesIn(root)]

function* filesIn(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = relative(root, join(folder, entry.name))
    if (entry.isDirectory() && !isForeign(`${path}/`)) yield* filesIn(join(root, path))
    if (entry.isFile() && !isForeign(path)) yield path
  }
}

/** Ignored by git, or git's and editors' own. */
function isForeign(path: string): boolean {
  if (/^\.[^/]+\/$/.test(path) && path !== '.ci/') return true
  return ignored.some((pattern) =>
    pattern.startsWith('*') ? path.endsWith(pattern.slice(1)) : `/${path}`.endsWith(`/${pattern}`),
  )
}

function linesThat(pattern: RegExp, paths: string[]): string[] {
  return paths.flatMap((path) =>
    read(path)
      .split('\n')
      .flatMap((line, at) => {
        const found = pattern.exec(line)
        return found ? [`${path}:${at + 1} has ${found[0]}`] : []
      }),
  )
}

test('The repository is read whole by these tests', () => {
  for (const known of [
    'package.json',
    '.ci/run',
    'db/triggers.sql',
    'server/main.ts',
    'test/unit/repository.test.ts',
  ]) {
    assert.ok(files.includes(known), known)
  }
  assert.deepEqual(
    files.filter((path) => /(^|\/)(node_modules|data)\//.test(path)),
    [],
  )
})

test('No file names a folder of the machine that it was written on', () => {
  // Fixtures are what SDKs sent, with the paths of the programs that they watched.
  const ours = files.filter((path) => !path.startsWith('test/fixtures/'))
  assert.deepEqual(linesThat(/(?<![\w.~*})\]])\/(work|root|home|Users|workspace)\/[\w.-]+|\b[A-Z]:\\Users\\/, ours), [])
})

test('No file names a package registry but the public one', () => {
  const hosts =
    /\b(?!registry\.npmjs\.org)[\w.-]*(registry|artifactory|jfrog|nexus|verdaccio|codeartifact)[\w-]*(\.[\w-]+)+(:\d+)?\//
  assert.deepEqual(linesThat(new RegExp(`://${hosts.source}`, 'i'), files), [])
  assert.deepEqual(
    linesThat(
      /^\s*(@[\w-]+:)?registry\s*=|_authToken|_auth\s*=/,
      files.filter((path) => path.endsWith('.npmrc')),
    ),
    [],
  )
})

interface Manifest {
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
}

interface Lock {
  packages: Record<string, { version?: string; resolved?: string; integrity?: string; link?: boolean }>
}

/** Mesher's own packages, and the clients that only tests install. */
for (const folder of ['', 'test/clients/']) {
  test(`Every dependency in ${folder}package.json has an exact version`, () => {
    const { dependencies, devDependencies } = readJson(`${folder}package.json`) as Manifest
    const exact = /^(npm:[\w./@-]+@)?\d+\.\d+\.\d+(-[\w.]+)?$/
    const loose = Object.entries({ ...dependencies, ...devDependencies }).filter(([, version]) => !exact.test(version))
    assert.deepEqual(loose, [])
  })

  test(`${folder}package-lock.json pins each package by its hash and leaves the registry to the user`, () => {
    const { packages } = readJson(`${folder}package-lock.json`) as Lock
    const entries = Object.entries(packages).filter(([path]) => path !== '')
    assert.ok(entries.length > 50)
    const elsewhere = entries.filter(
      ([, { resolved }]) => resolved && !resolved.startsWith('https://registry.npmjs.org/'),
    )
    assert.deepEqual(elsewhere, [])
    const unpinned = entries.filter(([, { version, integrity }]) => !version || !integrity)
    assert.deepEqual(unpinned, [])
  })
}
