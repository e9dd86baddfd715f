// The ceiling of whatever writes events: binary COPY in batches of 200 over four connections into a plain table with a
// primary key and two indexes, fsync on. It knows nothing of Mesher's schema and stays the same when that changes.
// Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".

import { randomFillSync } from 'node:crypto'
import { finished } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { cpuOf, startMeter } from './cpu.ts'
import type { Sample } from './events.ts'
import type { Context, Subject } from './figure.ts'
import { mustEqual } from './figure.ts'

export const batchRows = 200
export const connections = 4

const table = `
  create table ceiling (
    project_id bigint not null, id uuid not null, issue_id bigint not null, level text not null, environment text,
    received_at timestamptz not null, payload jsonb not null,
    constraint ceiling_pkey primary key (project_id, id)
  );
  create index on ceiling (project_id, issue_id, received_at);
  create index on ceiling (project_id, received_at)`

/** Rows a second. */
export async function createCeiling(context: Context, samples: Sample[]): Promise<Subject> {
  const database = await context.database({ migrated: false })
  await database.sql(table)
  const batches = Array.from({ length: Math.floor(samples.length / batchRows) }, (_, n) =>
    createBatch(samples.slice(n * batchRows, (n + 1) * batchRows)),
  )
  const clients = await Promise.all(
    Array.from({ length: connections }, async () => {
      const client = new pg.Client({ connectionString: database.url })
      await client.connect()
      context.after(() => client.end())
      return client
    }),
  )
  let next = 0
  let written = 0
  async function write(client: pg.Client, end: number): Promise<void> {
    while (performance.now() < end) {
      const batch = batches[next++ % batches.length]!
      const stream = client.query(copyFrom('copy ceiling from stdin (format binary)'))
      stream.end(batch())
      await finished(stream)
      written += batchRows
    }
  }
  return async (milliseconds) => {
    const before = written
    const start = performance.now()
    const meter = startMeter({ load: () => cpuOf(process.pid), postgres: database.cpu })
    await Promise.all(clients.map((client) => write(client, start + milliseconds)))
    const rate = ((written - before) * 1000) / (performance.now() - start)
    const cpu_us = meter(written - before)
    const [row] = await database.sql<{ count: string }>('select count(*) from ceiling')
    mustEqual(Number(row!.count), written, 'rows of the ceiling')
    return { rate, cpu_us }
  }
}

/** Encoded once; each call copies it and gives the rows new ids and the present time. */
function createBatch(samples: Sample[]): () => Buffer {
  const header = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
  const rows = samples.map(encodeRow)
  const encoded = Buffer.concat([header, ...rows, Buffer.from([0xff, 0xff])])
  let at = header.length
  const starts = rows.map((row) => {
    const start = at
    at += row.length
    return start
  })
  return () => {
    const batch = Buffer.from(encoded)
    const micros = BigInt(Date.now() - 946_684_800_000) * 1000n
    for (const [n, start] of starts.entries()) {
      randomFillSync(batch, start + idOffset, 16)
      batch.writeBigInt64BE(micros, start + rows[n]!.length - timeFromEnd(samples[n]!))
    }
    return batch
  }
}

/** After the number of fields, and project_id with its length; then the id's own length. */
const idOffset = 2 + 12 + 4
/** The time is the last but one field; jsonb is its version and the text. */
const timeFromEnd = (sample: Sample) => 8 + 4 + 1 + sample.json.length

function encodeRow({ json, issue, level, environment }: Sample): Buffer {
  const fields = [
    int8(1n),
    Buffer.alloc(16),
    int8(BigInt(issue)),
    Buffer.from(level),
    Buffer.from(environment),
    int8(0n),
    Buffer.concat([Buffer.from([1]), json]),
  ]
  const count = Buffer.alloc(2)
  count.writeInt16BE(fields.length)
  return Buffer.concat([count, ...fields.flatMap((field) => [int4(field.length), field])])
}

function int4(value: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeInt32BE(value)
  return buffer
}

function int8(value: bigint): Buffer {
  const buffer = Buffer.alloc(8)
  buffer.writeBigInt64BE(value)
  return buffer
}
