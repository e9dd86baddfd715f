// `npm start` runs the server from one file that it builds. Here in copies of the checkout, whose sources may be changed.

import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createDatabase, type TestDatabase } from '../support/database.ts'
import { startProcess } from '../support/process.ts'
import { within } from '../support/within.ts'

const checkout = fileURLToPath(new URL('../..', import.meta.url))

async function copyCheckout(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'mesher-start-'))
  t.after(() => rm(root, { recursive: true, force: true }))
  for (const name of ['package.json', 'package-lock.json', 'server', 'db', 'web'])
    await cp(join(checkout, name), join(root, name), { recursive: true })
  const packages = join(root, 'node_modules')
  await mkdir(packages)
  for (const name of await readdir(join(checkout, 'node_modules')))
    if (name !== '.mesher') await symlink(join(checkout, 'node_modules', name), join(packages, name))
  // Older than what is installed, else the copy would install its own.
  await utimes(join(root, 'package-lock.json'), 0, 0)
  return root
}

const buildsOf = (root: string) => readdir(join(root, 'node_modules', '.mesher'))

/** Starts it, asks for what lies in web/ and behind migrations, and stops it. */
async function runOnce(t: TestContext, root: string, database: TestDatabase): Promise<void> {
  const server = startProcess(t, { DATABASE_URL: database.url }, root)
  const url = await server.url
  const page = await fetch(url)
  assert.equal(page.status, 200)
  assert.match(await page.text(), /<html/)
  assert.equal((await fetch(`${url}/readyz`)).status, 200)
  server.child.kill('SIGTERM')
  assert.deepEqual(await within('the end', server.exit), { code: 0, signal: null })
}

test('The server is built once, anew when a source has changed, and the older build goes', async (t) => {
  const root = await copyCheckout(t)
  const database = await createDatabase(t)
  await runOnce(t, root, database)
  const [first = '', ...more] = await buildsOf(root)
  assert.match(first, /^server-[0-9a-f]{16}\.mjs$/)
  assert.deepEqual(more, [])
  // What a start finds is what it runs.
  const path = join(root, 'node_modules', '.mesher', first)
  const built = await readFile(path, 'utf8')
  await writeFile(path, built.replace('Mesher is running at', 'Mesher is running at first: '))
  const marked = startProcess(t, { DATABASE_URL: database.url }, root)
  await within('its line', new Promise<void>((resolve) => marked.child.stdout!.on('data', resolve)))
  assert.match(marked.stdout(), /running at first:/)
  marked.child.kill('SIGTERM')
  await marked.exit

  const source = join(root, 'server', 'main.ts')
  const before = await readFile(source, 'utf8')
  await writeFile(source, `${before}\n// changed\n`)
  await runOnce(t, root, database)
  const second = await buildsOf(root)
  assert.equal(second.length, 1)
  assert.notEqual(second[0], first)
})

test('Where nothing can be written beside the packages, the server runs from its sources', async (t) => {
  const root = await copyCheckout(t)
  await writeFile(join(root, 'node_modules', '.mesher'), 'a file where a folder should be')
  await runOnce(t, root, await createDatabase(t))
})

test('Two that start at once on a fresh clone both run', async (t) => {
  const root = await copyCheckout(t)
  const database = await createDatabase(t)
  await Promise.all([runOnce(t, root, database), runOnce(t, root, database)])
  assert.equal((await buildsOf(root)).length, 1)
})
