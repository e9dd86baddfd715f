// Where the server and its database are, for commands that are typed beside it: the environment first, else what npm start
// wrote into first-start.json.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../errors.ts'

const Facts = z
  .object({ url: z.string(), token: z.string(), database_url: z.string(), project_id: z.string() })
  .partial()
type Facts = z.output<typeof Facts>

async function readFacts(env: NodeJS.ProcessEnv): Promise<{ file: string; facts: Facts }> {
  const file = join(env.DATA_DIR || 'data', 'first-start.json')
  const text = await readFile(file, 'utf8').catch(() => '{}')
  try {
    return { file, facts: Facts.parse(JSON.parse(text)) }
  } catch {
    return { file, facts: {} }
  }
}

export async function findDatabase(env: NodeJS.ProcessEnv): Promise<string> {
  if (env.DATABASE_URL) return env.DATABASE_URL
  const { file, facts } = await readFacts(env)
  if (facts.database_url !== undefined) return facts.database_url
  throw new AppError('not_found', `No database: DATABASE_URL is not set, and ${file} names none (npm start writes it).`)
}

export interface ServerFacts {
  /** Without a slash at its end. */
  url: string
  token: string
  /** The first project; null when only the environment says where the server is. */
  project_id: string | null
}

/** Options win over MESHER_URL and MESHER_TOKEN, these over the file. */
export async function findServer(
  env: NodeJS.ProcessEnv,
  given: { url?: string | undefined; token?: string | undefined },
): Promise<ServerFacts> {
  const { file, facts } = await readFacts(env)
  const url = given.url || env.MESHER_URL || facts.url
  const token = given.token || env.MESHER_TOKEN || facts.token
  if (!url || !token) {
    throw new AppError(
      'not_found',
      `No server: give --url and --token, or MESHER_URL and MESHER_TOKEN; ${file} names none.`,
    )
  }
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) {
    throw new AppError('bad_request', `${url} is no address like http://127.0.0.1:8080`)
  }
  return { url: url.replace(/\/+$/, ''), token, project_id: url === facts.url ? (facts.project_id ?? null) : null }
}
