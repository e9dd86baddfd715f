// The route table driven by its own schemas: whatever a client sends, valid or not, the answer is never a 5xx, and it is what the
// table says that it is.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toUSVString } from 'node:util'
import fc from 'fast-check'
import { z } from 'zod'
import type { ApiRoute } from '../../server/http/api.ts'
import { startApp, type TestApp } from '../support/app.ts'
import { ownerPassword, type Person, setUpOwner } from '../support/person.ts'
import { rows } from '../support/routes.ts'
import { fitting, unfitting } from '../support/values.ts'

const Refusal = z.strictObject({
  error: z.strictObject({
    code: z.string(),
    message: z.string().min(10),
    details: z.array(z.strictObject({ path: z.string(), message: z.string() })).optional(),
  }),
})

interface Sent {
  params: Record<string, string>
  query: unknown
  body: unknown
}

const seed = Number(process.env.ROUTES_SEED ?? Math.floor(Math.random() * 2 ** 31))
const runs = 12

function requestTo(row: ApiRoute, ids: Record<string, string[]>): fc.Arbitrary<Sent> {
  const names = [...row.path.matchAll(/:(\w+)/g)].map((match) => match[1]!)
  const param = (name: string) =>
    fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...ids[name]!) },
      {
        weight: 1,
        arbitrary: fc.oneof(
          fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }),
          fc.constantFrom('0', '-1', '%00', '99999999999999999999', '..'),
        ),
      },
    )
  const part = (schema: z.ZodType | undefined) =>
    schema
      ? fc.oneof({ weight: 2, arbitrary: fitting(schema) }, { weight: 1, arbitrary: unfitting(schema) })
      : fc.constant(undefined)
  return fc.record({
    params: fc.record(Object.fromEntries(names.map((name) => [name, param(name)]))),
    query: part(row.query),
    body: part(row.body),
  })
}

function urlOf(row: ApiRoute, { params, query }: Sent): string {
  const path = row.path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(toUSVString(params[name]!)))
  if (typeof query !== 'object' || query === null) return path
  const pairs = Object.entries(query).map(([name, value]): [string, string] => [
    name,
    typeof value === 'string' ? value : JSON.stringify(value),
  ])
  return `${path}?${new URLSearchParams(pairs)}`
}

async function check(row: ApiRoute, owner: Person, sent: Sent): Promise<void> {
  const body = row.body ? (JSON.stringify(sent.body) ?? 'undefined') : undefined
  const { status, body: answer } = await owner.ask(row.method.toUpperCase(), urlOf(row, sent), body)
  assert.ok(status < 500, `${status} ${JSON.stringify(answer)}`)
  const schema = status >= 400 ? Refusal : row.reply
  if (status < 400) assert.equal(status, row.status ?? 200)
  const parsed = schema.safeParse(answer)
  assert.ok(parsed.success, `${status} ${JSON.stringify(answer)}: ${parsed.error?.message}`)
}

/** A request may have ended the session, changed the password, made somebody else of the owner: begin anew when it has. */
async function stillIn(server: TestApp, owner: Person): Promise<void> {
  if ((await owner.ask('GET', '/api/v1/me')).status === 200) return
  await server.database.sql('delete from sign_in_failures')
  const again = await owner.ask('POST', '/api/v1/auth/sign-in', { email: 'owner@example.com', password: ownerPassword })
  assert.equal(again.status, 200)
}

test('Random requests to every route are answered as the table says, and never with a 5xx', async (t) => {
  const server = await startApp(t)
  const owner = await setUpOwner(server)
  const { issue_id } = await server.send({ message: 'one of theirs' })
  const ids: Record<string, string[]> = {
    organization: ['default', '1'],
    project: ['app', '1'],
    issue: [issue_id],
    user: ['1', '2'],
    session: ['1', '999'],
    invitation: ['1', '2'],
    token: ['1', '999'],
    event: ['e'.repeat(32)],
    key: [server.public_key, 'f'.repeat(32)],
  }
  for (const row of rows) {
    // One that is deleted leaves nothing to ask about; what deletes is tried on what does not exist, and by tests of its own.
    const deletes = row.method === 'delete' && /:(organization|project)$/.test(row.path)
    const known = deletes ? { ...ids, organization: ['nowhere'], project: ['nowhere'] } : ids
    await fc.assert(
      fc.asyncProperty(requestTo(row, known), async (sent) => {
        await stillIn(server, owner)
        await check(row, owner, sent)
      }),
      { seed, numRuns: runs, endOnFailure: true, reporter: reporterOf(row) },
    )
  }
  assert.ok(!server.log.lines.some((line) => line.level === 'error'), 'nothing of a client’s is an error of the server')
})

/** With how to see it again. */
const reporterOf = (row: ApiRoute) => (details: fc.RunDetails<[Sent]>) => {
  if (!details.failed) return
  throw new Error(
    `${row.method} ${row.path} (ROUTES_SEED=${seed}): ${JSON.stringify(details.counterexample)}: ${details.errorInstance}`,
  )
}
