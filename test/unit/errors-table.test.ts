import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { statusOf } from '../../server/errors.ts'
import { closeCodes } from '../../server/protocol.ts'

async function errorsSection(): Promise<string> {
  const text = await readFile(new URL('../../ARCHITECTURE.md', import.meta.url), 'utf8')
  return /^## Errors$(.*?)^## /ms.exec(text)![1]!
}

test('The table of errors lists exactly the codes of the server, each with its HTTP status', async () => {
  const rows = [...(await errorsSection()).matchAll(/^\| `(\w+)` \| (\d+) \| .+ \| .+ \|$/gm)]
  const listed = rows.map(([, code, status]) => [code, Number(status)])
  assert.deepEqual(listed, Object.entries(statusOf))
})

test('The errors say what every close code of a socket means', async () => {
  const section = await errorsSection()
  for (const code of Object.values(closeCodes)) assert.match(section, new RegExp(`\\b${code}\\b`))
})
