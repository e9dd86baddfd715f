// The server, and the mesher command, each as one file of JavaScript, made when the sources are other than the last time. Compiled on the fly, and
// loaded from 500 files, it took three times as long to start, and kept a compiler of 22 MB beside it (bench/README.md).
//
// The file lies two folders below the root, as the sources that find db/ and web/ by their own place do.

import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = join(root, 'node_modules', '.mesher')

/** Where it is; null when node_modules cannot be written. `name` is what the file is called by, `entry` its source. */
export async function build(name, entry) {
  const file = `${name}-${fingerprint()}.mjs`
  const path = join(folder, file)
  if (existsSync(path)) return path
  const text = await compile(entry)
  try {
    mkdirSync(folder, { recursive: true })
    // What takes the name is whole: another start may be looking for it.
    const draft = join(folder, `${randomBytes(8).toString('hex')}.tmp`)
    writeFileSync(draft, text)
    renameSync(draft, path)
    for (const older of readdirSync(folder))
      if (older.startsWith(`${name}-`) && older.endsWith('.mjs') && older !== file)
        rmSync(join(folder, older), { force: true })
    return path
  } catch {
    return null
  }
}

/** By content: times mean nothing after a checkout, or in the layer of an image. */
function fingerprint() {
  const hash = createHash('sha256')
  for (const file of ['package-lock.json', 'server/cli/build.mjs', ...sources('server')]) {
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(root, file)))
      .update('\0')
  }
  return hash.digest('hex').slice(0, 16)
}

function sources(under) {
  return readdirSync(join(root, under), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .sort()
    .map((file) => join(under, file))
}

async function compile(entry) {
  // The one that tsx has.
  const { build: bundle, stop } = createRequire(createRequire(import.meta.url).resolve('tsx'))('esbuild')
  const { outputFiles } = await bundle({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    // Three that find files by their own place, and one that pg asks for and nobody has.
    external: ['uWebSockets.js', '@node-rs/argon2', 'pg-format', 'pg-native'],
    // Packages in CommonJS ask for Node's modules with it.
    banner: {
      js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url)",
    },
    logLevel: 'error',
  })
  // Else its process stays as long as this one.
  await stop()
  return outputFiles[0].text
}
