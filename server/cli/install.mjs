// Runs before every npm script (pretest, precheck, …; start.mjs imports it), on a clone that may have no node_modules yet:
// plain Node, no dependency. Says nothing and costs a few milliseconds when there is nothing to do. `install.mjs test/clients`
// installs the packages of that folder of the repository.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const [, program = '', folder = '.'] = process.argv
const root = resolve(repository, program.endsWith('install.mjs') ? folder : '.')

refuseOldNode()
if (!isInstalled()) {
  const release = lock()
  let code = 0
  try {
    // Another install may have finished while this one waited for the lock.
    if (!isInstalled()) code = install()
  } finally {
    release()
  }
  if (code !== 0) process.exit(code)
}

function refuseOldNode() {
  const wanted = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')).engines.node.replace('>=', '')
  const [major, minor] = wanted.split('.').map(Number)
  const [hasMajor, hasMinor] = process.versions.node.split('.').map(Number)
  if (hasMajor > major || (hasMajor === major && hasMinor >= minor)) return
  console.error(`Mesher needs Node ${wanted} or newer; this is Node ${process.versions.node}.`)
  process.exit(1)
}

// npm writes node_modules/.package-lock.json last, so an interrupted install counts as none.
function isInstalled() {
  try {
    const installed = statSync(join(root, 'node_modules', '.package-lock.json')).mtimeMs
    return installed >= statSync(join(root, 'package-lock.json')).mtimeMs
  } catch {
    return false
  }
}

function install() {
  // Development packages too, whatever NODE_ENV says: `npm test` may be the next command.
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']
  const npm = process.env.npm_execpath
  const options = { cwd: root, stdio: 'inherit' }
  const result =
    npm && /\.c?js$/.test(npm) ? spawnSync(process.execPath, [npm, ...args], options) : spawnSync('npm', args, options)
  if (result.error) console.error(`npm ci could not be run: ${result.error.message}`)
  return result.status ?? 1
}

// `npm ci` empties node_modules first, so two at once would spoil each other. The lock is a directory outside the
// clone, because node_modules does not exist yet and git should not see it; it names its owner, and dies with it.
function lock() {
  const id = createHash('sha256').update(root).digest('hex').slice(0, 16)
  const directory = join(tmpdir(), `mesher-install-${userInfo().uid}-${id}`)
  const owner = join(directory, 'pid')
  const giveUp = Date.now() + 10 * 60_000
  for (;;) {
    try {
      mkdirSync(directory, { mode: 0o700 })
      writeFileSync(owner, String(process.pid))
      return () => rmSync(directory, { recursive: true, force: true })
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    if (isAbandoned(directory, owner)) rmSync(directory, { recursive: true, force: true })
    else if (Date.now() > giveUp) {
      console.error(`Another npm ci seems to run in ${root}; if none does, remove ${directory}.`)
      process.exit(1)
    } else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
  }
}

function isAbandoned(directory, owner) {
  try {
    process.kill(Number(readFileSync(owner, 'utf8')), 0)
    return false
  } catch (error) {
    if (error.code !== 'ENOENT') return error.code === 'ESRCH'
  }
  // No pid in it yet: its owner is between two lines above, unless it has been there for long.
  try {
    return Date.now() - statSync(directory).mtimeMs > 5_000
  } catch {
    return false
  }
}
