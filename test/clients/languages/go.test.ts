// Sentry's SDK for Go.

import assert from 'node:assert/strict'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { startApp } from '../../support/app.ts'
import { here } from '../installed.ts'
import { assertArrived, snippet } from '../page.ts'
import { environmentOf, missingProgram, runProgram } from '../program.ts'
import { createRecorder } from '../recorder.ts'
import { assertCounted, assertStory } from '../story.ts'

const options = { skip: missingProgram('go', ['version']), timeout: 900_000 }

/** The path of the built client; null, with the reason told, where the module proxy does not answer. */
async function build(t: TestContext, main?: string): Promise<string | null> {
  const cwd = await mkdtemp(join(tmpdir(), 'mesher-go-'))
  t.after(() => rm(cwd, { recursive: true, force: true }))
  await cp(`${here}programs/go`, cwd, { recursive: true })
  if (main !== undefined) await writeFile(join(cwd, 'main.go'), main)
  const env = environmentOf('GO')
  const fetched = await runProgram('go', ['mod', 'download'], { cwd, env, patience: 120_000 })
  if (fetched.code !== 0) {
    t.skip(`sentry-go could not be fetched: ${fetched.stderr.trim()}`)
    return null
  }
  const built = await runProgram('go', ['build', '-o', 'client', '.'], { cwd, env, patience: 600_000 })
  assert.equal(built.code, 0, built.stderr)
  return join(cwd, 'client')
}

test('What sentry-go sends is stored field by field', options, async (t) => {
  const client = await build(t)
  if (client === null) return
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const ended = await runProgram(client, [recorder.dsn])
  assert.equal(ended.code, 0, ended.stderr)
  await assertStory(app, recorder, {
    sdk: /^sentry\.go 0\.50\.0$/,
    platform: 'go',
    causes: ['*errors.errorString', '*fmt.wrapError', '*main.PaymentError'],
    title: '*main.PaymentError: checkout failed for order 987',
    culprit: /main/,
    message: 'checkout failed for order 987',
    user_key: 'id:u-77',
    slowCulprit: /main/,
  })
  await assertCounted(app, recorder, ['attachment', 'transaction'])
})

test('The snippet for Go sends its event', options, async (t) => {
  const app = await startApp(t)
  const client = await build(t, snippet('go', app))
  if (client === null) return
  const ended = await runProgram(client, [])
  assert.equal(ended.code, 0, ended.stderr)
  await assertArrived(app)
})
