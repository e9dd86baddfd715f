// Events as the writer gets them, and connections that write them, without the doors in front.

import { createHash, randomUUID } from 'node:crypto'
import type { TestContext } from 'node:test'
import type { Event } from '../../server/ingest/event.ts'
import { createWriterConnection, type WriterConnection } from '../../server/write/connection.ts'
import type { Waiting } from '../../server/write/queue.ts'
import type { TestDatabase } from './database.ts'

export const newId = () => randomUUID().replaceAll('-', '')

/** Events with the same title belong to one issue. */
export function eventOf(title: string, fields: Partial<Event> = {}): Event {
  const received_at = fields.received_at ?? Date.now()
  return {
    id: newId(),
    received_at,
    timestamp: received_at,
    level: 'error',
    environment: null,
    release: null,
    platform: 'node',
    title,
    culprit: null,
    message: title,
    transaction: null,
    server_name: null,
    user: null,
    hashes: [createHash('md5').update(title).digest('hex')],
    components: [JSON.stringify(['msg', title])],
    grouping_algo: 'g1',
    tags: [],
    payload: Buffer.from(JSON.stringify({ message: title })),
    ...fields,
  }
}

/** As the queue holds it; a connection reads no more than the project and the event. */
export function waitingOf(project_id: string, event: Event): Waiting {
  return { project_id, lane: project_id, event, bytes: 0, since: 0, resolve: () => {}, reject: () => {} }
}

export interface TestWriter {
  connection: WriterConnection
  write(projectId: string, events: Event[]): ReturnType<WriterConnection['write']>
}

/** A writer's connection that is closed after the test. */
export function openWriter(t: TestContext, database: TestDatabase, lockTimeout = 10_000): TestWriter {
  const connection = createWriterConnection({ databaseUrl: database.url, applicationName: 'test writer', lockTimeout })
  t.after(() => connection.end())
  return {
    connection,
    write: (projectId, events) => connection.write(events.map((event) => waitingOf(projectId, event))),
  }
}

/** Tags as they are counted once all that batches counted is added, which the server does by the second. */
export async function tagCounts(database: TestDatabase): Promise<{ key: string; value: string; events: number }[]> {
  await database.sql('select fold_issue_tags(id, 1000000) from projects')
  return database.sql(`
    select key, value, sum(event_count)::int as events from issue_tags group by key, value
     order by key collate "C", value collate "C"`)
}

/** What traffic writes, and what it has to be: the first statement's rows are to be the second's. */
const counts: Record<string, [string, string]> = {
  issue_stats: [
    'select project_id, issue_id, event_count, user_count, last_seen from issue_stats where event_count > 0',
    `select project_id, issue_id, count(*), count(distinct user_key), max(received_at) from events group by 1, 2`,
  ],
  issue_hourly: [
    'select project_id, issue_id, hour, event_count from issue_hourly',
    `select project_id, issue_id, date_trunc('hour', received_at, 'UTC'), count(*) from events group by 1, 2, 3`,
  ],
  issue_users: [
    'select project_id, issue_id, user_key from issue_users',
    'select distinct project_id, issue_id, user_key from events where user_key is not null',
  ],
  issue_hashes: [
    'select distinct project_id, issue_id from issue_hashes',
    'select project_id, issue_id from issue_stats',
  ],
  event_ids: ['select project_id, id from events', 'select project_id, event_id from event_ids'],
  project_counters: [
    'select project_id, unresolved from project_counters',
    `select p.id, count(i.id) from projects p
       left join issues i on i.project_id = p.id and i.status = 'unresolved' group by p.id`,
  ],
}
/** Keeps what was counted of events whose issue was deleted since. */
const projectHourly: [string, string] = [
  'select project_id, hour, level, event_count from project_hourly',
  `select project_id, date_trunc('hour', received_at, 'UTC'), level, count(*) from events group by 1, 2, 3`,
]

/** The counts that are wrong: an empty list proves that nothing was lost or counted twice. */
export async function wrongCounts(database: TestDatabase, options: { deleted?: boolean } = {}): Promise<string[]> {
  const { event_ids, ...others } = counts
  const compared = options.deleted ? others : { ...others, event_ids: event_ids!, project_hourly: projectHourly }
  const wrong: string[] = []
  for (const [name, [is, shouldBe]] of Object.entries(compared)) {
    const rows = await database.sql(`
      (select 'is' as it, x.* from (${is} except all ${shouldBe}) x)
      union all (select 'should be', x.* from (${shouldBe} except all ${is}) x) limit 6`)
    if (rows.length > 0) wrong.push(`${name}: ${JSON.stringify(rows)}`)
  }
  return wrong
}
