// `sentry-cli send-event`: Sentry's SDK for Rust underneath.

import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'
import { here } from './installed.ts'
import { missingProgram, runProgram } from './program.ts'
import { createRecorder } from './recorder.ts'
import { assertStored } from './stored.ts'
import { assertAnswered } from './story.ts'

const cli = `${here}node_modules/.bin/sentry-cli`
const skip = missingProgram(cli)

test('What sentry-cli send-event sends is stored field by field', { skip }, async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const folder = await mkdtemp(join(tmpdir(), 'mesher-cli-'))
  t.after(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'shop.log'), '2026-11-24 12:00:00 cart opened\n2026-11-24 12:00:01 gateway timed out\n')
  const args = ['send-event', '--logfile', join(folder, 'shop.log')]
  args.push('-m', 'Payments of %s are slow', '-a', 'shop', '-l', 'warning', '-r', 'shop-cron@1.4.2', '-E', 'staging')
  args.push(
    '-t',
    'region:eu-west-1',
    '-e',
    'total:19.99',
    '-u',
    'id:u-77',
    '-u',
    'email:alice@example.com',
    '-f',
    'slow',
  )
  const ended = await runProgram(cli, args, { env: { SENTRY_DSN: recorder.dsn } })
  assert.equal(ended.code, 0, ended.stderr)

  assertAnswered(recorder)
  const [sent, ...more] = recorder.events()
  assert.equal(more.length, 0)
  assert.match(ended.stdout.replaceAll('-', ''), new RegExp(`Event id: ${sent!.event_id}`))
  assert.deepEqual(sent!.logentry, { message: 'Payments of %s are slow', params: ['shop'] })
  assert.equal((sent!.breadcrumbs as { values: unknown[] }).values.length, 2)
  await assertStored(app, sent!, {
    title: 'Payments of shop are slow',
    message: 'Payments of shop are slow',
    culprit: null,
    user_key: 'id:u-77',
    changed: ['user.ip_address: "{{auto}}" became "127.0.0.1"'],
  })
})

test('sentry-cli send-event sends events from files', { skip }, async (t) => {
  const app = await startApp(t)
  const recorder = await createRecorder(t, app)
  const folder = await mkdtemp(join(tmpdir(), 'mesher-cli-'))
  t.after(() => rm(folder, { recursive: true }))
  const event = {
    event_id: 'ce2a5a2b3f0f4d7d9a58c3f1a7d5b6e4',
    timestamp: Date.now() / 1000,
    level: 'fatal',
    platform: 'python',
    environment: 'staging',
    release: 'shop-cron@1.4.2',
    exception: {
      values: [
        {
          type: 'ValueError',
          value: 'no such cart',
          module: 'carts',
          stacktrace: { frames: [{ function: 'load', filename: 'carts.py', lineno: 7 }] },
        },
      ],
    },
  }
  await writeFile(join(folder, 'event.json'), JSON.stringify(event))
  const args = ['send-event', join(folder, 'event.json')]
  const ended = await runProgram(cli, args, { env: { SENTRY_DSN: recorder.dsn } })
  assert.equal(ended.code, 0, ended.stderr)
  assertAnswered(recorder)
  const [sent] = recorder.events()
  await assertStored(app, sent!, {
    title: 'ValueError: no such cart',
    message: 'no such cart',
    culprit: /load/,
    user_key: null,
  })
})
