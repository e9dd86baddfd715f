// Sentry's SDK for Python, new and old, and raven, which came before it.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { startApp } from '../../support/app.ts'
import { here } from '../installed.ts'
import { assertArrived, snippet } from '../page.ts'
import { environmentOf, missingProgram, runProgram } from '../program.ts'
import { createRecorder } from '../recorder.ts'
import { assertCounted, assertStory, type Story } from '../story.ts'

const skip = missingProgram('python3', ['-c', 'import venv, ensurepip'])

/** The interpreter of an environment with that package alone; null, with the reason told, where PyPI does not answer. */
async function pythonWith(t: TestContext, requirement: string): Promise<string | null> {
  const folder = await mkdtemp(join(tmpdir(), 'mesher-python-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const made = await runProgram('python3', ['-m', 'venv', folder], { patience: 300_000 })
  assert.equal(made.code, 0, made.stderr)
  const python = join(folder, 'bin', 'python')
  const install = ['-m', 'pip', 'install', '--quiet', '--retries', '1', requirement]
  const installed = await runProgram(python, install, { env: environmentOf('PIP_'), patience: 300_000 })
  if (installed.code === 0) return python
  t.skip(`${requirement} could not be installed: ${installed.stderr.trim().split('\n').at(-1)}`)
  return null
}

const story: Omit<Story, 'sdk'> = {
  platform: 'python',
  causes: ['KeyError', 'ValueError', 'PaymentError'],
  title: 'PaymentError: checkout failed for order 987, 2 items',
  culprit: /^charge$/,
  message: 'checkout failed for order 987, 2 items',
  user_key: 'id:77',
  slowCulprit: /^charge$/,
}

for (const version of ['2.75.0', '1.9.0']) {
  test(`What sentry-sdk ${version} for Python sends is stored field by field, and the snippet of the page runs`, {
    skip,
    timeout: 600_000,
  }, async (t) => {
    const python = await pythonWith(t, `sentry-sdk==${version}`)
    if (python === null) return
    const app = await startApp(t)
    const recorder = await createRecorder(t, app)
    const ended = await runProgram(python, [`${here}programs/python.py`, recorder.dsn])
    assert.equal(ended.code, 0, ended.stderr)
    await assertStory(app, recorder, { ...story, sdk: new RegExp(`^sentry\\.python ${version}$`) })
    assert.ok(recorder.exchanges.every(({ headers }) => headers['content-encoding'] === 'gzip'))
    await assertCounted(app, recorder, ['attachment', 'session', 'transaction'])

    const reader = await startApp(t)
    const followed = await runProgram(python, ['-c', snippet('python', reader)])
    assert.equal(followed.code, 0, followed.stderr)
    await assertArrived(reader)
  })
}

test('What raven 6.10 for Python sends is stored field by field', { skip, timeout: 600_000 }, async (t) => {
  const python = await pythonWith(t, 'raven==6.10.0')
  if (python === null) return
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const ended = await runProgram(python, [`${here}programs/raven_client.py`, recorder.dsn])
  assert.equal(ended.code, 0, ended.stderr)
  await assertStory(app, recorder, {
    ...story,
    sdk: /^raven-python 6\.10\.0$/,
    causes: ['ValueError'],
    title: 'ValueError: checkout failed for order 987, 2 items',
    message: 'ValueError: checkout failed for order 987, 2 items',
    culprit: /checkout/,
    without: ['order'],
    slowCulprit: null,
  })
})
