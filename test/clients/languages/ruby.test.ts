// Sentry's SDK for Ruby, the version that Debian has (ruby-sentry-ruby-core).

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp } from '../../support/app.ts'
import { here } from '../installed.ts'
import { assertArrived, snippet } from '../page.ts'
import { missingProgram, runProgram } from '../program.ts'
import { createRecorder } from '../recorder.ts'
import { assertCounted, assertStory } from '../story.ts'

const skip = missingProgram('ruby', ['-e', 'require "sentry-ruby"'])

test('What sentry-ruby sends is stored field by field', { skip }, async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const ended = await runProgram('ruby', [`${here}programs/ruby.rb`, recorder.dsn], { env: { LANG: 'C.UTF-8' } })
  assert.equal(ended.code, 0, ended.stderr)
  await assertStory(app, recorder, {
    sdk: /^sentry\.ruby \d/,
    platform: 'ruby',
    causes: ['KeyError', 'ArgumentError', 'PaymentError'],
    title: 'PaymentError: checkout failed for order 987',
    culprit: /checkout/,
    message: 'checkout failed for order 987',
    user_key: 'id:77',
    slowCulprit: /main/,
  })
  assert.ok(recorder.exchanges.every(({ headers }) => headers['content-encoding'] === ''))
  await assertCounted(app, recorder, ['transaction'])
})

test('The snippet for Ruby sends its event', { skip }, async (t) => {
  const app = await startApp(t)
  const ended = await runProgram('ruby', ['-e', snippet('ruby', app)])
  assert.equal(ended.code, 0, ended.stderr)
  await assertArrived(app)
})
