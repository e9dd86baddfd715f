// The main story: an error of a real SDK arrives on an open dashboard, and so does a change typed into psql.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'

/** A program with @sentry/node and nothing but the DSN; resolves when it has ended. */
async function runProgram(dsn: string, body: string): Promise<number | null> {
  const code = `
    const Sentry = require('@sentry/node')
    Sentry.init({ dsn: ${JSON.stringify(dsn)}, environment: 'production', release: 'shop@1.2.3', serverName: 'web-1' })
    ${body}`
  const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'ignore', 'ignore'] })
  const [exit] = (await once(child, 'exit')) as [number | null]
  return exit
}

test('An error thrown in a program with @sentry/node arrives live, with its new issue and the count', async (t) => {
  const server = await startApp(t)
  const all = await server.stream()
  const errors = await server.stream({ level: ['error', 'fatal'] })

  const exit = await runProgram(server.dsn, `function checkout() { throw new TypeError('no basket') }; checkout()`)
  assert.equal(exit, 1, 'an uncaught error ends the program as it would without the SDK')

  const created = await all.next('issue')
  assert.equal(created.action, 'created')
  assert.equal(created.issue?.title, 'TypeError: no basket')
  assert.equal(created.issue?.status, 'unresolved')
  assert.equal(created.issue?.event_count, 1)
  assert.equal((await all.next('issue_count')).count, 1)
  const event = await all.next('event')
  assert.equal(event.issue_id, created.issue_id)
  assert.equal(event.data.level, 'fatal')
  assert.equal(event.data.environment, 'production')
  assert.equal(event.data.release, 'shop@1.2.3')
  assert.equal(event.data.server_name, 'web-1')
  assert.equal((await errors.next('event')).data.id, event.data.id)

  await runProgram(server.dsn, `Sentry.captureMessage('basket emptied', 'info'); Sentry.flush()`)
  assert.equal((await all.next('event')).data.level, 'info')
  await server.send({ message: 'marker', level: 'error' })
  const next = await errors.next('event')
  assert.equal(next.data.title, 'marker', 'the message at level info was filtered')
})

test('An UPDATE typed into psql arrives with its role and the exact count; one that is rolled back does not', async (t) => {
  const server = await startApp(t)
  const { issue_id } = await server.send({ message: 'first', level: 'error' })
  await server.send({ message: 'second', level: 'error' })
  const client = await server.stream()
  const person = await server.database.connect()
  const { rows } = await person.query<{ role: string }>('select current_user as role')

  await person.query('begin')
  await person.query("update issues set status = 'resolved'")
  await person.query('rollback')
  await person.query("update issues set status = 'resolved' where id = $1", [issue_id])

  const resolved = await client.next('issue')
  assert.deepEqual([resolved.action, resolved.issue_id, resolved.actor], ['resolved', issue_id, rows[0]!.role])
  assert.equal(resolved.issue?.status, 'resolved')
  assert.equal((await client.next('issue_count')).count, 1)

  await server.send({ message: 'first', level: 'error' })
  const regressed = await client.next('issue')
  assert.deepEqual([regressed.action, regressed.issue_id], ['regressed', issue_id])
  assert.equal((await client.next('issue_count')).count, 2)
})
