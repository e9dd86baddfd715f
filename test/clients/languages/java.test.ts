// Sentry's SDK for Java.

import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { startApp } from '../../support/app.ts'
import { here } from '../installed.ts'
import { assertArrived, snippet } from '../page.ts'
import { missingProgram, runProgram } from '../program.ts'
import { createRecorder } from '../recorder.ts'
import { assertCounted, assertStory } from '../story.ts'

const version = '8.44.0'
const options = { skip: missingProgram('javac') || missingProgram('mvn'), timeout: 600_000 }

/** A folder with the SDK's jar; null, with the reason told, where Maven Central does not answer. */
async function fetchJar(t: TestContext): Promise<{ folder: string; jar: string } | null> {
  const folder = await mkdtemp(join(tmpdir(), 'mesher-java-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const copy = ['-q', '-B', 'dependency:copy', `-Dartifact=io.sentry:sentry:${version}`, `-DoutputDirectory=${folder}`]
  const fetched = await runProgram('mvn', copy, { cwd: folder, patience: 300_000 })
  if (fetched.code === 0) return { folder, jar: join(folder, `sentry-${version}.jar`) }
  t.skip(`io.sentry:sentry could not be fetched: ${fetched.stdout.slice(0, 300)}`)
  return null
}

test('What sentry for Java sends is stored field by field, and the snippet of the page runs', options, async (t) => {
  const fetched = await fetchJar(t)
  if (fetched === null) return
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const ended = await runProgram('java', ['-cp', fetched.jar, `${here}programs/Java.java`, recorder.dsn])
  assert.equal(ended.code, 0, ended.stderr)
  await assertStory(app, recorder, {
    sdk: /^sentry\.java 8\.44\.0$/,
    platform: 'java',
    causes: ['NumberFormatException', 'IllegalStateException', 'Java$PaymentException'],
    title: 'Java$PaymentException: checkout failed for order 987',
    culprit: /checkout/,
    message: 'checkout failed for order 987',
    user_key: 'id:u-77',
    // The SDK does not say which frames of its own stack are the application's.
    slowCulprit: /^java\.lang\.Thread in getStackTrace$/,
  })
  await assertCounted(app, recorder, ['attachment', 'session', 'transaction'])

  const reader = await startApp(t)
  await writeFile(join(fetched.folder, 'Shop.java'), snippet('java', reader))
  const followed = await runProgram('java', ['-cp', fetched.jar, join(fetched.folder, 'Shop.java')])
  assert.equal(followed.code, 0, followed.stderr)
  await assertArrived(reader)
})
