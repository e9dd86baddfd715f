// A small disk of its own for the database, so that it can be filled without harm to anybody: a tmpfs, which takes Linux
// and root. Elsewhere there is none, and the disk never fills up.

import { execFile } from 'node:child_process'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Scope } from '../support/scope.ts'

const run = promisify(execFile)

export interface Disk {
  /** Until nothing more fits. */
  fill(): Promise<void>
  free(): Promise<void>
}

/** Null where it cannot be made. */
export async function mountDisk(scope: Scope, folder: string, megabytes: number): Promise<Disk | null> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return null
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0755`, 'tmpfs', folder])
  } catch {
    return null
  }
  scope.after(() => run('umount', [folder]))
  const ballast = join(folder, 'ballast')
  return {
    async fill() {
      const file = await open(ballast, 'w')
      try {
        for (const size of [1 << 20, 1 << 12]) await fillWith(Buffer.alloc(size), file)
      } finally {
        await file.close()
      }
    },
    free: () => rm(ballast, { force: true }),
  }
}

async function fillWith(block: Buffer, file: Awaited<ReturnType<typeof open>>): Promise<void> {
  try {
    for (;;) await file.appendFile(block)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
}
