// What somebody needs who starts Mesher for the first time, on the console and as first-start.json for scripts. Later
// starts keep the file true: the address, or the port of the embedded database, may have changed.

import { randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { z } from 'zod'
import type { FirstStart } from './db/bootstrap.ts'

const Facts = z.object({
  url: z.string(),
  dsn: z.string(),
  token: z.string(),
  database_url: z.string(),
  project_id: z.string(),
})
export type FirstStartFacts = z.output<typeof Facts>

export function firstStartFacts(url: string, database_url: string, first: FirstStart): FirstStartFacts {
  return { url, dsn: dsnFrom(url, first), token: first.token, database_url, project_id: first.project_id }
}

function dsnFrom(url: string, { public_key, project_id }: { public_key: string; project_id: string }): string {
  const dsn = new URL(url)
  dsn.username = public_key
  dsn.pathname = `${dsn.pathname.replace(/\/$/, '')}/${project_id}`
  return dsn.href
}

/** Readable by its owner alone: it holds the token and the database's password. Returns where it is. */
export async function saveFirstStart(dataDir: string, facts: FirstStartFacts): Promise<string> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const path = join(dataDir, 'first-start.json')
  // A new file that takes the name: no half-written one is ever read, and no link that lies there is followed.
  const fresh = `${path}.${randomUUID()}`
  const file = await open(fresh, 'wx', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(facts, null, 2)}\n`)
  } finally {
    await file.close()
  }
  await rename(fresh, path)
  return relative(process.cwd(), path)
}

/** Null when this data directory has no such file, or it is not ours to change. */
export async function refreshFirstStart(dataDir: string, url: string, database_url: string): Promise<string | null> {
  const path = join(dataDir, 'first-start.json')
  const text = await readFile(path, 'utf8').catch(() => null)
  if (text === null) return null
  const parsed = Facts.safeParse(jsonFrom(text))
  if (!parsed.success) return null
  const { dsn, project_id } = parsed.data
  return saveFirstStart(dataDir, {
    ...parsed.data,
    url,
    database_url,
    dsn: dsnFrom(url, { public_key: new URL(dsn).username, project_id }),
  })
}

function jsonFrom(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

export function firstStartText(facts: FirstStartFacts, savedAt: string): string {
  const key = new URL(facts.dsn).username
  return `
  DSN    ${facts.dsn}
  Token  ${facts.token}  (shown once, kept in ${savedAt})

  Send an event:
    curl ${facts.url}/api/v1/events -H 'Authorization: Bearer ${key}' -d '{"message":"Hello, Mesher"}'
  Change an issue by hand and see it arrive:
    npm run sql -- "update issues set status = 'resolved' where id = 1"
`
}
