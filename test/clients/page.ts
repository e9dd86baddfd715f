// docs/sdks.md, as a reader has it: snippets are taken from the page and run with the address of the server under test.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import type { TestApp } from '../support/app.ts'
import { eventually } from '../support/eventually.ts'

const page = readFileSync(new URL('../../docs/sdks.md', import.meta.url), 'utf8')

const blocks = new Map(
  [...page.matchAll(/^<!-- tested: ([\w-]+) -->\n```\w+\n((?:(?!```).*\n)*)```$/gm)].map(([, name, text]) => [
    name!,
    text!,
  ]),
)

export const snippetNames = [...blocks.keys()]

export function snippet(name: string, app: TestApp): string {
  const text = blocks.get(name)
  assert.ok(text, `docs/sdks.md has no snippet "${name}"`)
  return text.replaceAll('<key>', app.public_key).replaceAll('127.0.0.1:8080', new URL(app.url).host)
}

/** What each snippet of the page sends. */
export async function assertArrived(app: TestApp) {
  const [event, ...more] = await eventually(async () => {
    const rows = await app.database.sql('select title, environment, release from events')
    assert.ok(rows.length > 0, 'nothing has arrived')
    return rows
  })
  assert.equal(more.length, 0)
  assert.match(event!.title, /^([\w.*]+: )?The cart is empty$/)
  assert.deepEqual([event!.environment, event!.release], ['production', 'shop@1.4.2'])
}
