// @sentry/node of one major version, unmodified: what it sends, and what it does when Mesher does not take it. Each answer comes
// from a whole server that has the trouble. One file a version, so that no file takes long.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'
import { startBehindProxy } from '../support/proxy.ts'
import { within } from '../support/within.ts'
import { startDriven } from './driven.ts'
import { here, missing, requireClient } from './installed.ts'
import { runProgram } from './program.ts'
import { createRecorder, itemsOf, type Recorder } from './recorder.ts'
import { assertStored, storedEvent } from './stored.ts'
import { assertCounted, assertStory } from './story.ts'

interface NodeSdk {
  major: string
  /** Of its package. */
  name: string
  /** The item in which it sends what it traces. */
  traces: 'span' | 'transaction'
}

export function testNodeSdk({ major, name, traces }: NodeSdk) {
  test(`What @sentry/node ${major} sends is stored field by field`, { skip: missing(name) }, async (t) => {
    const app = await startApp(t)
    const recorder = await createRecorder(t, app)
    const client = requireClient.resolve(name)
    const ended = await runProgram(process.execPath, [`${here}programs/node.cjs`, client, recorder.dsn])
    assert.deepEqual(ended, { code: 0, stdout: '', stderr: '' })

    const [failed] = await assertStory(app, recorder, {
      sdk: new RegExp(`^sentry\\.javascript\\.node ${major}\\.`),
      platform: 'node',
      causes: ['SyntaxError', 'Error', 'PaymentError'],
      title: 'PaymentError: checkout failed for order 987',
      culprit: /^POST \/checkout$|^checkout/,
      message: 'checkout failed for order 987',
      user_key: 'id:u-77',
      slowCulprit: null,
    })
    // The third event is so large that the SDK compresses it.
    const large = recorder.events().find((event) => event.message === 'Payments are large')!
    assert.equal(Object.keys(large.extra as object).length, 11)
    await assertStored(app, large, {
      title: 'Payments are large',
      message: 'Payments are large',
      culprit: null,
      user_key: 'id:u-77',
    })
    assert.ok(recorder.exchanges.some(({ headers }) => headers['content-encoding'] === 'gzip'))

    const { issue_id } = await storedEvent(app, failed.event_id)
    const { body } = await app.api<{ event_count: number; user_count: number }>('GET', `/api/v1/issues/${issue_id}`)
    assert.deepEqual([body.event_count, body.user_count], [1, 1])

    const attachments = recorder.ofType('attachment')
    assert.deepEqual(
      attachments.map(({ header }) => header.filename),
      ['cart.json', 'empty.bin'],
    )
    assert.ok(recorder.ofType('session').length >= 2)
    await assertCounted(app, recorder, ['session', traces])
  })

  const title = `@sentry/node ${major} drops what is answered 413, waits after 429 and 503 as long as it is told, and is heard again`
  test(title, { skip: missing(name) }, async (t) => {
    // There is never room for an event of more than 200 kB.
    const options = { databaseGrace: 0, writers: 1, writer: { queueBytes: 200_000 } }
    const { server: app, proxy } = await startBehindProxy(t, options)
    const recorder = await createRecorder(t, app)
    const program = await startDriven(t, requireClient.resolve(name), recorder.dsn)
    const events = () => answersTo(recorder, 'event')
    const checkIns = () => answersTo(recorder, 'check_in')
    const stored = [await program.capture('first')]

    await program.capture('more than a mebibyte', 1_200_000)
    stored.push(await program.capture('after 413'))
    assert.deepEqual(events(), [200, 413, 200], '413 costs that event and no other')

    await program.capture('more than may wait', 200_000)
    assert.deepEqual(events().slice(3), [429])
    const limited = recorder.exchanges.at(-1)!.answerHeaders
    assert.match(limited['x-sentry-rate-limits'] as string, /^1:error;default;security;attachment:project:/)
    assert.equal(limited['retry-after'], '1')
    await program.capture('while it is limited')
    await program.checkIn('nightly')
    assert.deepEqual([events().slice(3), checkIns()], [[429], [200]], '429 stops errors and nothing else')
    await program.wait(2)
    stored.push(await program.capture('after the limit'))
    assert.deepEqual(events().slice(3), [429, 200])

    const back = app.log.next('write.database_back')
    proxy.refuse('mesher writer 1')
    await program.capture('while PostgreSQL is away')
    assert.deepEqual(events().slice(5), [503])
    const seconds = Number(recorder.exchanges.at(-1)!.answerHeaders['retry-after'])
    assert.ok(seconds >= 1 && seconds <= 60)
    await program.capture('while it waits')
    await program.checkIn('nightly')
    assert.deepEqual([events().slice(5), checkIns()], [[503], [200]], '503 with a time stops everything')
    proxy.allow('mesher writer 1')
    await within('the return of PostgreSQL', back, 60_000)
    await program.wait(seconds + 1)
    stored.push(await program.capture('after PostgreSQL is back'))
    assert.deepEqual(events().slice(5), [503, 200])

    for (const id of stored) await storedEvent(app, id)
    const [row] = await app.database.sql<{ n: string }>('select count(*) as n from events')
    assert.equal(row!.n, String(stored.length))
    // What it drops while it is limited it counts, and sends the counts along when it may. (The report that is due during
    // a limit on everything is dropped, too.)
    const told = discarded(recorder).filter((one) => one === 'ratelimit_backoff error').length
    assert.ok(told > 0)
    await eventually(async () => {
      const [sum] = await app.database.sql<{ n: string }>(
        "select sum(quantity) as n from client_reports where reason = 'ratelimit_backoff' and category = 'error'",
      )
      assert.equal(sum!.n, String(told))
    })
  })
}

/** The status of each request with an item of that type. */
function answersTo(recorder: Recorder, type: string): number[] {
  return recorder.exchanges.filter((one) => itemsOf(one).some((item) => item.type === type)).map(({ status }) => status)
}

/** What the SDK says that it threw away, as `reason category`, each as often as it happened. */
function discarded(recorder: Recorder): string[] {
  const reports = recorder.ofType('client_report').map(({ payload }) => JSON.parse(payload.toString()))
  const parts = reports.flatMap(
    (report) => report.discarded_events as { reason: string; category: string; quantity: number }[],
  )
  return parts.flatMap(({ reason, category, quantity }) => Array<string>(quantity).fill(`${reason} ${category}`))
}
