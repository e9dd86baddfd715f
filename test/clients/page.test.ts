// The page of snippets for users: each that it calls tested is run as it stands there.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'
import { missingChromium, openPage, servePage } from './chromium.ts'
import { here } from './installed.ts'
import { assertArrived, snippet, snippetNames } from './page.ts'
import { missingProgram, runProgram } from './program.ts'

test('Every snippet that the page calls tested is one that the tests run', () => {
  const inThisFile = ['browser', 'csp', 'curl', 'node', 'sentry-cli', 'websocket']
  const inLanguages = ['go', 'java', 'python', 'ruby']
  assert.deepEqual([...snippetNames].sort(), [...inThisFile, ...inLanguages].sort())
})

for (const name of ['node', 'websocket']) {
  test(`The snippet for ${name} sends its event`, async (t) => {
    const app = await startApp(t)
    const args = ['--input-type=module', '-e', snippet(name, app)]
    const ended = await runProgram(process.execPath, args, { cwd: here })
    assert.deepEqual([ended.code, ended.stderr], [0, ''])
    await assertArrived(app)
  })
}

for (const [name, skip] of [
  ['curl', missingProgram('curl')],
  ['sentry-cli', missingProgram(`${here}node_modules/.bin/sentry-cli`)],
] as const) {
  test(`The snippet for ${name} sends its event`, { skip }, async (t) => {
    const app = await startApp(t)
    const env = { PATH: `${here}node_modules/.bin:${process.env.PATH}` }
    const ended = await runProgram('sh', ['-ec', snippet(name, app)], { env })
    assert.equal(ended.code, 0, ended.stderr)
    await assertArrived(app)
  })
}

test('The snippet for browsers sends its event', { skip: missingChromium }, async (t) => {
  const app = await startApp(t)
  const origin = await servePage(t, { script: snippet('browser', app) })
  const page = await openPage(t)
  await page.goto(origin)
  await assertArrived(app)
})

test('The policy for browsers sends what Chromium reports', { skip: missingChromium }, async (t) => {
  const app = await startApp(t)
  const [name, ...policy] = snippet('csp', app).trim().split(': ')
  const body = '<img src="http://images.example.com/cart.png">'
  const origin = await servePage(t, { headers: { [name!]: policy.join(': ') }, body })
  const page = await openPage(t)
  await page.goto(origin)
  const [event] = await eventually(async () => {
    const rows = await app.database.sql('select title, environment, release from events')
    assert.equal(rows.length, 1)
    return rows
  })
  assert.match(event!.title, /images\.example\.com/)
  assert.deepEqual([event!.environment, event!.release], ['production', 'shop@1.4.2'])
})
