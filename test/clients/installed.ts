// The clients have a package.json of their own beside this file. test/run.ts installs them; without a registry they are
// missing, and the tests that need one say so.

import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

export const here = fileURLToPath(new URL('.', import.meta.url))
export const requireClient = createRequire(import.meta.url)

/** For the `skip` of a test: false when the package can be used, else the reason. */
export function missing(name: string): string | false {
  try {
    requireClient.resolve(name)
    return false
  } catch {
    return `${name} is not installed: \`npm ci\` in test/clients failed or has not run`
  }
}
