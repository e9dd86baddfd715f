// @sentry/browser in a real Chromium, on a page of another origin than Mesher's: nothing arrives without CORS.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'
import { missingChromium, openPage, servePage } from './chromium.ts'
import { createRecorder, eventsOf, itemsOf } from './recorder.ts'
import { assertStored, storedEvent } from './stored.ts'
import { assertCounted, assertStory } from './story.ts'

const skip = missingChromium

/** Functions of programs/browser.js. */
interface Shop {
  tell(): Promise<boolean>
  capture(message: string, size?: number): Promise<string>
  startSession(): Promise<boolean>
  throwLater(): void
}
declare const window: Shop

test('What @sentry/browser 11 sends from another origin is stored field by field', { skip }, async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const origin = await servePage(t)
  const page = await openPage(t)
  await page.goto(`${origin}/?dsn=${encodeURIComponent(recorder.dsn)}`)
  assert.equal(await page.evaluate(() => window.tell()), true)

  assert.ok(
    recorder.exchanges.every(({ headers }) => headers.origin === origin && headers['content-encoding'] === undefined),
  )
  const [failed] = await assertStory(app, recorder, {
    sdk: /^sentry\.javascript\.browser 11\./,
    platform: 'javascript',
    causes: ['SyntaxError', 'Error', 'PaymentError'],
    title: 'PaymentError: checkout failed for order 987',
    culprit: /checkout/,
    message: 'checkout failed for order 987',
    user_key: 'id:u-77',
    slowCulprit: /^http/,
  })
  const { url, headers } = failed.request as { url: string; headers: Record<string, string> }
  assert.ok(url.startsWith(origin))
  assert.match(headers['User-Agent']!, /Chrome/)
  await assertCounted(app, recorder, ['attachment', 'session', 'span'])
})

test('Errors that nobody catches in a page arrive from Chromium as unhandled', { skip }, async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const origin = await servePage(t)
  const page = await openPage(t)
  await page.goto(`${origin}/?dsn=${encodeURIComponent(recorder.dsn)}`)
  await page.evaluate(() => window.throwLater())
  await eventually(() => assert.equal(recorder.events().length, 2), 30_000)
  for (const [title, mechanism] of [
    ['PaymentError: checkout failed for order 1', /onerror|browserapierrors|instrument/],
    ['PaymentError: nobody waits for this', /onunhandledrejection/],
  ] as const) {
    const sent = recorder
      .events()
      .find((event) => JSON.stringify(event).includes(title.slice('PaymentError: '.length)))!
    const stored = await assertStored(app, sent, {
      title,
      message: title.slice('PaymentError: '.length),
      culprit: /http/,
      // The SDK says "infer_ip": Mesher sees the browser's address.
      user_key: 'ip:127.0.0.1',
    })
    // Tags are folded a moment after the commit.
    await eventually(async () => {
      const tags = await app.database.sql<{ handled: string }>(
        "select value as handled from issue_tags where issue_id = $1 and key = 'handled'",
        [stored.issue_id],
      )
      assert.deepEqual(tags, [{ handled: 'no' }])
    })
    assert.match(JSON.stringify(sent), mechanism)
  }
})

test('A page on another origin sees 429 with its limits, and stops sending errors and nothing else', {
  skip,
}, async (t) => {
  const app = await startApp(t, { writer: { queueBytes: 100_000 } })
  const recorder = await createRecorder(t, app)
  const origin = await servePage(t)
  const page = await openPage(t)
  await page.clock.setFixedTime(Date.now())
  await page.goto(`${origin}/?dsn=${encodeURIComponent(recorder.dsn)}`)
  const answers = () => recorder.exchanges.filter((one) => eventsOf(one).length > 0).map(({ status }) => status)

  await page.evaluate(() => window.capture('first'))
  await page.evaluate(() => window.capture('too much at once', 200_000))
  assert.deepEqual(answers(), [200, 429])
  const exposed = String(recorder.exchanges.at(-1)!.answerHeaders['access-control-expose-headers']).toLowerCase()
  for (const header of ['x-sentry-rate-limits', 'retry-after']) assert.ok(exposed.includes(header))

  const sessions = recorder.ofType('session').length
  await page.evaluate(() => window.capture('while it is limited'))
  await page.evaluate(() => window.startSession())
  assert.deepEqual(answers(), [200, 429])
  assert.ok(recorder.ofType('session').length > sessions, 'what is not limited is sent')
  assert.equal(recorder.exchanges.findLast((one) => itemsOf(one).some(({ type }) => type === 'session'))!.status, 200)

  await page.clock.setFixedTime(Date.now() + 3_600_000)
  const last = await page.evaluate(() => window.capture('after the limit'))
  assert.deepEqual(answers(), [200, 429, 200])
  await storedEvent(app, last)
})
