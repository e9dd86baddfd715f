// @sentry/node through a tunnel, below a path, and with a wrong key.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'
import { startDriven } from './driven.ts'
import { requireClient } from './installed.ts'
import { createRecorder } from './recorder.ts'
import { storedEvent } from './stored.ts'
import { assertAnswered } from './story.ts'

const client = requireClient.resolve('@sentry/node')

test('An SDK with a tunnel sends its key in the envelope alone, and is heard', async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  // The address in the DSN is nobody's: only the tunnel is asked.
  const dsn = `http://${app.public_key}@errors.example.com/${app.project_id}`
  const program = await startDriven(t, client, dsn, `${recorder.url}/tunnel`)
  const id = await program.capture('through a tunnel')
  assertAnswered(recorder)
  assert.ok(recorder.exchanges.every(({ path, headers }) => path === '/tunnel' && !headers['x-sentry-auth']))
  await storedEvent(app, id)
})

test('An SDK whose DSN has a path before the project is heard, as behind a proxy', async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const dsn = recorder.dsn.replace(/\/(\d+)$/, '/tools/errors/$1')
  const program = await startDriven(t, client, dsn)
  const id = await program.capture('below a path')
  assertAnswered(recorder)
  assert.ok(recorder.exchanges.every(({ path }) => path.startsWith(`/tools/errors/api/${app.project_id}/envelope/?`)))
  await storedEvent(app, id)
})

test('A wrong key costs a program its events and troubles it no further', async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const wrong = recorder.dsn.replace(/\/\/\w+@/, `//${'0'.repeat(32)}@`)
  const program = await startDriven(t, client, wrong)
  await program.capture('one')
  await program.capture('two')
  assert.equal(recorder.events().length, 2)
  assert.ok(recorder.exchanges.every(({ status }) => status === 403))
  assert.match(recorder.exchanges[0]!.answer, /check the DSN/)
})
