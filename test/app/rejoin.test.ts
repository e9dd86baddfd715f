// After a restart many clients come back at once, with the cursor of what all of them heard last.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startApp } from '../support/app.ts'

test('Clients that come back together with one cursor share the reading, and each gets what its own filters mean', async (t) => {
  const server = await startApp(t)
  const first = await server.stream()
  const since = first.cursor()
  first.socket.terminate()
  const { issue_id } = await server.send({ message: 'there is an issue' })
  for (const level of ['error', 'info', 'fatal']) {
    await server.database.sql(
      `insert into events (project_id, issue_id, title, level, environment)
       select $1, $2, $3 || n, $3, case n % 2 when 0 then 'even' else 'odd' end from generate_series(1, 700) n`,
      [server.project_id, issue_id, level],
    )
  }
  // They stand in line until the table can be read.
  const person = await server.database.connect()
  await person.query('begin')
  await person.query('lock table issue_activity in access exclusive mode')
  const wanted = [{}, { level: ['error'] }, { environment: ['odd'] }, { level: ['fatal'], environment: ['even'] }]
  const joining = Array.from({ length: 40 }, (_, n) => server.stream({ ...wanted[n % wanted.length], since }))
  await person.query('rollback')
  for (const [n, client] of (await Promise.all(joining)).entries()) {
    await client.next('mark')
    const { level = ['error', 'info', 'fatal'], environment = ['odd', 'even'] } = wanted[n % wanted.length]!
    const ours = client.ofType('event').filter(({ data }) => data.title !== 'there is an issue')
    assert.ok(ours.every(({ data }) => level.includes(data.level) && environment.includes(data.environment ?? '')))
    assert.equal(new Set(ours.map(({ data }) => data.id)).size, level.length * environment.length * 350)
  }
})
