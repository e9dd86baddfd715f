// What somebody needs who starts Mesher for the first time, on the console and as data/first-start.json for scripts.

import { mkdir, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { FirstStart } from './db/bootstrap.ts'

export interface FirstStartFile {
  url: string
  dsn: string
  token: string
  database_url: string
  project_id: string
}

export function firstStartFacts(url: string, databaseUrl: string, first: FirstStart): FirstStartFile {
  const dsn = new URL(url)
  dsn.username = first.public_key
  dsn.pathname = `${dsn.pathname.replace(/\/$/, '')}/${first.project_id}`
  return { url, dsn: dsn.href, token: first.token, database_url: databaseUrl, project_id: first.project_id }
}

/** Readable by its owner alone: it holds the token and the database's password. */
export async function saveFirstStart(dataDir: string, facts: FirstStartFile): Promise<string> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const path = join(dataDir, 'first-start.json')
  await writeFile(path, `${JSON.stringify(facts, null, 2)}\n`, { mode: 0o600 })
  return relative(process.cwd(), path) || path
}

export function firstStartText(facts: FirstStartFile, savedAt: string): string {
  const key = new URL(facts.dsn).username
  return `
  DSN    ${facts.dsn}
  Token  ${facts.token}   (shown once, kept in ${savedAt})

  Send an event:
    curl ${facts.url}/api/v1/events -H 'Authorization: Bearer ${key}' -d '{"message":"Hello, Mesher"}'
  Run SQL by hand, and watch it arrive:
    npm run sql -- "update issues set status = 'resolved' where id = 1"
`
}
