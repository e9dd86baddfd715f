// The `mesher` command as people and scripts use it, against a real server.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { plain } from '../../server/cli/lines.ts'
import { startApp, startAppOn, type TestApp } from '../support/app.ts'
import { createPerson } from '../support/person.ts'
import type { Scope } from '../support/scope.ts'
import { within } from '../support/within.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

function start(server: TestApp, args: string[]) {
  return spawn(process.execPath, ['bin/mesher.mjs', ...args], {
    cwd: root,
    env: {
      ...process.env,
      DATA_DIR: '/nonexistent',
      DATABASE_URL: server.database.url,
      MESHER_URL: server.url,
      MESHER_TOKEN: server.token,
    },
  })
}

async function mesher(server: TestApp, ...args: string[]) {
  const child = start(server, args)
  child.stdin.end()
  const closed = once(child, 'close')
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), closed])
  return { stdout, stderr, code: code as number }
}

/** Runs until the test ends; `line` resolves with the next line of standard output, `said` when standard error has said it. */
function running(t: Scope, server: TestApp, ...args: string[]) {
  const child = start(server, args)
  t.after(() => void child.kill('SIGKILL'))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const notes = createInterface({ input: child.stderr })
  const heard: string[] = []
  const waiting: { words: string; resolve(): void }[] = []
  notes.on('line', (note) => {
    heard.push(note)
    for (const one of waiting) if (note.includes(one.words)) one.resolve()
  })
  return {
    child,
    line: async () => (await within('a line of the command', lines.next(), 30_000)).value as string,
    said: (words: string) =>
      within(
        `"${words}" on standard error`,
        new Promise<void>((resolve) => {
          if (heard.some((note) => note.includes(words))) resolve()
          else waiting.push({ words, resolve })
        }),
        30_000,
      ),
  }
}

test('An account is made with a link, and a forgotten password chosen anew', async (t) => {
  const server = await startApp(t)
  const made = await mesher(server, 'user', 'create', 'Anna@example.com', '--role', 'owner', '--name', 'Anna')
  assert.equal(made.code, 0, made.stderr)
  const reset = await mesher(server, 'user', 'reset', 'anna@example.com')
  for (const { stdout } of [made, reset]) {
    assert.match(stdout, new RegExp(`^${server.url}/#/reset/[\\w-]{43}\n$`))
    const person = createPerson(server)
    const link = stdout.trim().split('/').at(-1)
    const chosen = await person.ask('POST', '/api/v1/auth/reset', { link, password: 'a password of hers' })
    assert.equal(chosen.status, 200)
    const me = await person.ask<{ organizations: { role: string }[] }>('GET', '/api/v1/me')
    assert.equal(me.body.organizations[0]!.role, 'owner')
  }
  const again = await mesher(server, 'user', 'create', 'anna@example.com')
  assert.deepEqual([again.code, again.stderr], [2, 'mesher: This address has an account already\n'])
})

test('Projects, keys and tokens are made and revoked, and work at once', async (t) => {
  const server = await startApp(t)
  const made = await mesher(server, 'project', 'create', 'shop', '--name', 'The shop')
  assert.match(made.stdout, /^http:\/\/[0-9a-f]{32}@127\.0\.0\.1:\d+\/2\n$/)
  const more = await mesher(server, 'project', 'keys', 'shop', '--create', 'mobile')
  assert.match(more.stdout, / {2}default\n.* {2}mobile\n$/)
  const key = new URL(made.stdout.trim()).username
  const send = async () => {
    const headers = { authorization: `Bearer ${key}` }
    return (await fetch(`${server.url}/api/v1/events`, { method: 'POST', headers, body: '{"message":"x"}' })).status
  }
  assert.equal(await send(), 202)
  const revoked = await mesher(server, 'project', 'keys', 'shop', '--revoke', key)
  assert.match(revoked.stdout, /default {2}\(revoked\)/)

  const token = await mesher(server, 'token', 'create', 'ci', '--scope', 'read', '--project', 'shop')
  const ask = async () => {
    const headers = { authorization: `Bearer ${token.stdout.trim()}` }
    return (await fetch(`${server.url}/api/v1/projects/shop`, { headers })).status
  }
  assert.equal(await ask(), 200)
  const listed = await mesher(server, 'token', 'list')
  const [, id] = /^(\d+) {2}msh_[0-9a-f]{4}… {2}read {2}ci /m.exec(listed.stdout)!
  assert.ok(!listed.stdout.includes(token.stdout.trim()))
  assert.equal((await mesher(server, 'token', 'revoke', id!)).code, 0)
})

test('tail shows what is committed, as lines or as JSON, and goes on after the server was away', async (t) => {
  const server = await startApp(t)
  const tail = running(t, server, 'tail', '--level', 'error')
  const json = running(t, server, 'tail', '--json', '--project', 'app')
  await tail.said('live, 0 unresolved')
  await json.said('live')
  await server.send({ message: 'not shown', level: 'info' })
  await server.send({ message: 'first \u001b[31mred\u202e', level: 'error', environment: 'production' })
  const lines = [await tail.line(), await tail.line(), await tail.line(), await tail.line(), await tail.line()]
  assert.ok(
    lines.some((line) => /^\d\d:\d\d:\d\d error {3}first +\[31mred +production/.test(line)),
    lines.join('\n'),
  )
  assert.ok(!lines.some((line) => line.includes('\u001b')))
  assert.ok(!lines.some((line) => / info /.test(line)))
  assert.equal((JSON.parse(await json.line()) as { type: string }).type, 'subscribed')

  tail.child.kill('SIGINT')
  await tail.said('go on with --since ')
  assert.equal((await once(tail.child, 'close'))[0], 0)
})

test('wait ends with 0 when what it waits for came, with 1 when the time is over, with 2 when it cannot', async (t) => {
  const server = await startApp(t)
  const event = running(t, server, 'wait', '--match', 'wanted')
  const issue = running(t, server, 'wait', '--for', 'issue', '--json')
  await Promise.all([event.said('waiting'), issue.said('waiting')])
  const ends = [once(event.child, 'close'), once(issue.child, 'close')]
  await server.send({ message: 'another' })
  await server.send({ message: 'the wanted one' })
  assert.match(await event.line(), /the wanted one/)
  const told = JSON.parse(await issue.line()) as { type: string; action: string }
  assert.deepEqual([told.type, told.action], ['issue', 'created'])
  assert.deepEqual(
    (await Promise.all(ends)).map(([code]) => code),
    [0, 0],
  )
  assert.equal((await mesher(server, 'wait', '--timeout', '0.5')).code, 1)
  const refused = await mesher(server, 'wait', '--token', `msh_${'0'.repeat(40)}`, '--project', 'app')
  assert.equal(refused.code, 2)
  assert.match(refused.stderr, /does not know this token/)
})

test('A revoked token ends tail, and says why', async (t) => {
  const server = await startApp(t)
  const tail = running(t, server, 'tail', '--project', 'app')
  await tail.said('live')
  const closed = once(tail.child, 'close')
  await server.database.sql('update api_tokens set revoked_at = now()')
  await tail.said('revoked or has expired')
  assert.equal((await closed)[0], 2)
})

test('tail comes back to a server that was restarted, with what it missed', async (t) => {
  const server = await startApp(t)
  const tail = running(t, server, 'tail', '--project', 'app', '--json')
  await tail.said('live')
  await server.app.stop()
  await tail.said('back in')
  const again = await startAppOn(t, server.database, server, { port: Number(new URL(server.url).port) })
  const { id } = await again.send({ message: 'while it was away' })
  for (;;) {
    const message = JSON.parse(await tail.line()) as { type: string; data?: { id: string } }
    if (message.type === 'event' && message.data?.id === id) break
  }
})

test('Wrong words are answered with how to use the command', async (t) => {
  const server = await startApp(t)
  const wrong = await mesher(server, 'tail', '--level', 'loud')
  assert.notEqual(wrong.code, 0)
  assert.match(wrong.stderr, /It is one of fatal, error, warning, info, debug\./)
  assert.notEqual((await mesher(server, 'dance')).code, 0)
})

test('Control characters and direction marks of a text do not reach the terminal', () => {
  assert.equal(plain('a\u001b[2Jb\u202ec\u2066d\r\ne\u009bf'), 'a [2Jb c d e f')
})
