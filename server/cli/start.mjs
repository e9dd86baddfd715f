// `npm start`: installs what is missing, builds what has changed, and becomes the server, all in one process.

import './install.mjs'

const { build } = await import('./build.mjs')
const built = await build('server', 'server/main.ts')
if (built) await import(built)
else {
  // Slower to start, and the same otherwise.
  const { register } = await import('tsx/esm/api')
  register()
  await import('../main.ts')
}
