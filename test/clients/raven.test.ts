// raven, the client that Sentry had for Node.js before @sentry/node.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'
import { here, missing, requireClient } from './installed.ts'
import { runProgram } from './program.ts'
import { createRecorder } from './recorder.ts'
import { assertStory } from './story.ts'

test('What raven sends through the old store door is stored field by field', { skip: missing('raven') }, async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const args = [`${here}programs/raven.cjs`, requireClient.resolve('raven'), recorder.dsn]
  const ended = await runProgram(process.execPath, ['--no-deprecation', ...args])
  assert.deepEqual([ended.code, ended.stderr], [0, ''])
  const [failed, slow] = await assertStory(app, recorder, {
    sdk: /^$/,
    platform: 'node',
    causes: ['TypeError'],
    title: 'TypeError: checkout failed for order 987',
    culprit: /checkout/,
    message: 'TypeError: checkout failed for order 987',
    user_key: 'id:u-77',
    without: ['order'],
    slowCulprit: null,
  })
  assert.ok(recorder.exchanges.every(({ path, method }) => method === 'POST' && path.endsWith('/store/')))
  assert.deepEqual(
    JSON.parse(ended.stdout),
    [failed.event_id, slow.event_id],
    'the program is told the ids that are stored',
  )
})
