#!/usr/bin/env node
// The command: installs what is missing and builds what has changed, as npm start does.

import '../server/cli/install.mjs'

const { build } = await import('../server/cli/build.mjs')
const built = await build('mesher', 'server/cli/mesher.ts')
if (built) await import(built)
else {
  const { register } = await import('tsx/esm/api')
  register()
  await import('../server/cli/mesher.ts')
}
