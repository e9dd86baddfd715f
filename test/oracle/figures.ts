// What the servers and the database hold just now: what must not grow in a long run.

import { readdir, readFile, readlink } from 'node:fs/promises'
import type { Oracle } from './oracle.ts'

export interface Held {
  pid: number | undefined
  rss_mb: number
  handles: number
  sockets: number
}

/** Null where there is no /proc, or no such process any more. */
async function held(pid: number | undefined): Promise<Held | null> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    const handles = await readdir(`/proc/${pid}/fd`)
    const links = await Promise.all(handles.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')))
    return {
      pid,
      rss_mb: Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024),
      handles: handles.length,
      sockets: links.filter((link) => link.startsWith('socket:')).length,
    }
  } catch {
    return null
  }
}

/** Rows that stand for events are emptied after each round; the others come and go. */
const tables = ['event_ids', 'issue_activity', 'issue_tag_deltas', 'issue_tags', 'project_counters']

export async function figuresOf({ fleet, world }: Oracle) {
  const servers = await Promise.all(fleet.slots.map(({ process }) => held(process.child.pid)))
  const [database] = await world.database.sql<Record<string, number>>(
    `select (pg_database_size(current_database()) / 1048576.0)::numeric(9, 1)::float8 as database_mb,
            (select count(*)::int from events) as stored,
            (select coalesce(sum(pg_total_relation_size(relid)), 0) / 1024 from pg_partition_tree('events'))::int as events_kb,
            ${tables.map((name) => `(pg_total_relation_size('${name}') / 1024)::int as ${name}_kb`)},
            (select count(*)::int from issue_tag_deltas) as deltas,
            pg_notification_queue_usage() as queue,
            (select count(*)::int from pg_stat_activity where application_name like 'mesher%') as connections`,
  )
  return { servers, ...database }
}
