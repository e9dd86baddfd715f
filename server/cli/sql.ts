// npm run sql -- "update issues set status = 'resolved' where id = 1"
//
// SQL by hand on machines without psql: through the `pg` driver, printed as psql prints it. What it changes reaches every
// dashboard like any other commit. Several statements of one call are one transaction, as in `psql -c`.

import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { AppError } from '../errors.ts'
import { findDatabase } from './facts.ts'

const usage = `Usage: npm run sql -- [--user ROLE] "SQL"   (without SQL: read from standard input)`

/** int8, int2, int4, oid, float4, float8, numeric: aligned to the right. */
const numberTypes = new Set([20, 21, 23, 26, 700, 701, 1700])

/** As pg gives it with rowMode 'array' and without type parsers. */
interface Result {
  command: string
  rowCount: number | null
  fields: { name: string; dataTypeID: number }[]
  rows: (string | null)[][]
}

try {
  await main(process.argv.slice(2), process.env)
} catch (error) {
  process.stderr.write(`${sentenceFrom(error)}\n`)
  process.exitCode = 1
}

async function main(args: string[], env: NodeJS.ProcessEnv): Promise<void> {
  const { user, statements } = await parseCommand(args)
  const client = new pg.Client({
    connectionString: await findDatabase(env),
    application_name: 'mesher sql',
    connectionTimeoutMillis: 5000,
  })
  client.on('notice', ({ severity, message }) => process.stderr.write(`${severity}: ${message}\n`))
  // A connection that is lost also fails the query that runs.
  client.on('error', () => {})
  await client.connect()
  try {
    if (user !== undefined) await become(client, user)
    for (const result of await runAll(client, statements)) print(result)
  } finally {
    await client.end()
  }
}

async function parseCommand(args: string[]): Promise<{ user: string | undefined; statements: string }> {
  const parsed = (() => {
    try {
      return parseArgs({ args, options: { user: { type: 'string' } }, allowPositionals: true })
    } catch (error) {
      throw new AppError('bad_request', `${(error as Error).message}\n${usage}`)
    }
  })()
  if (parsed.positionals.length > 1) throw new AppError('bad_request', `Put the SQL in one pair of quotes.\n${usage}`)
  const statements = parsed.positionals[0] ?? (await text(process.stdin))
  if (statements.trim() === '') throw new AppError('bad_request', usage)
  return { user: parsed.values.user, statements }
}

/** From here on the session is the role's, for privileges and for what triggers record as the actor. */
async function become(client: pg.Client, role: string): Promise<void> {
  const { rowCount } = await client.query('select from pg_roles where rolname = $1', [role])
  if (rowCount === 0) {
    await createRole(client, pg.escapeIdentifier(role))
    process.stderr.write(`Created role "${role}": it may read everything and insert, update and delete issues.\n`)
  }
  await client.query(`set session authorization ${pg.escapeIdentifier(role)}`)
}

async function createRole(client: pg.Client, role: string): Promise<void> {
  // pg_read_all_data covers the partitions that are still to come, too.
  await client.query(`begin; create role ${role}; grant pg_read_all_data to ${role}`)
  const { rows } = await client.query<{ found: boolean }>("select to_regclass('issues') is not null as found")
  if (rows[0]?.found) {
    await client.query(`grant insert, update, delete on issues to ${role};
      grant usage on all sequences in schema public to ${role}`)
  }
  await client.query('commit')
}

async function runAll(client: pg.Client, statements: string): Promise<Result[]> {
  const asText = { getTypeParser: () => (value: string) => value }
  const results: unknown = await client.query({ text: statements, rowMode: 'array', types: asText })
  return (Array.isArray(results) ? results : [results]) as Result[]
}

function print(result: Result): void {
  if (result.fields.length > 0) process.stdout.write(tableFrom(result))
  const isRead = result.fields.length > 0 && ['SELECT', 'SHOW', 'EXPLAIN', 'VALUES'].includes(result.command)
  if (isRead || !result.command) return
  const count = result.command === 'INSERT' ? `0 ${result.rowCount}` : result.rowCount
  process.stdout.write(`${[result.command, count].filter((word) => word !== null).join(' ')}\n`)
}

function tableFrom({ fields, rows }: Result): string {
  const names = fields.map((field) => field.name)
  const isNumber = fields.map((field) => numberTypes.has(field.dataTypeID))
  const cells = rows.map((row) => row.map((value) => (value ?? '').split('\n')))
  const widths = names.map((name, column) =>
    Math.max(width(name), ...cells.flatMap((row) => row[column]!.map((line) => width(line)))),
  )
  const header = names.map((name, column) => centre(name, widths[column]!)).join(' | ')
  const lines = cells.flatMap((row) => {
    const height = Math.max(...row.map((cell) => cell.length))
    return Array.from({ length: height }, (_, line) =>
      row
        .map((cell, column) => {
          const space = ' '.repeat(widths[column]! - width(cell[line] ?? ''))
          const padded = isNumber[column] ? `${space}${cell[line] ?? ''}` : `${cell[line] ?? ''}${space}`
          // As in psql: a plus says that the value goes on in the next line.
          return ` ${padded}${line < cell.length - 1 ? '+' : ' '}`
        })
        .join('|')
        .trimEnd(),
    )
  })
  const rule = widths.map((wide) => '-'.repeat(wide + 2)).join('+')
  const footer = `(${rows.length} ${rows.length === 1 ? 'row' : 'rows'})`
  return `${[` ${header}`.trimEnd(), rule, ...lines, footer].join('\n')}\n`
}

function width(line: string): number {
  return [...line].length
}

function centre(name: string, wide: number): string {
  const left = Math.floor((wide - width(name)) / 2)
  return `${' '.repeat(left)}${name}${' '.repeat(wide - width(name) - left)}`
}

function sentenceFrom(error: unknown): string {
  if (error instanceof AppError) return error.message
  if (error instanceof pg.DatabaseError) {
    const more = [error.detail && `DETAIL: ${error.detail}`, error.hint && `HINT: ${error.hint}`].filter(Boolean)
    return [`${error.severity}: ${error.message} (SQLSTATE ${error.code})`, ...more].join('\n')
  }
  if ((error as { code?: unknown }).code === 'ECONNREFUSED') {
    const { address, port } = error as { address?: string; port?: number }
    return `PostgreSQL does not answer at ${address}:${port}. The embedded one runs while npm start does.`
  }
  return error instanceof Error ? error.message : String(error)
}
