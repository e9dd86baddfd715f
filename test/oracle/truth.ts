// What was committed, as the journal has it, and what of it a subscriber is owed.

import type { Filters, Level } from '../../server/protocol.ts'
import type { World } from './world.ts'

export interface TrueEvent {
  id: string
  issue_id: string
  level: Level
  environment: string | null
  /** Deleted since, with its issue: who was away cannot be told of it. */
  gone: boolean
  xid: bigint
  /** When it was committed, in milliseconds. */
  at: number
}

export interface TrueChange {
  /** `<action> <issue_id>` */
  what: string
  /** One of more than 500 of its statement: told as a whole. */
  bulk: boolean
  xid: bigint
  at: number
}

export interface Truth {
  events: Map<string, TrueEvent>
  changes: TrueChange[]
  /** Issues as they are: id -> what a summary says of them. */
  issues: Map<string, string>
  unresolved: number
}

/** More changes than this in one statement are told as `bulk` (db/triggers.sql). */
const mostTold = 500

const committedAt = 'extract(epoch from pg_xact_commit_timestamp(xid::xid))::float8 * 1000 as at'

export async function readTruth({ database }: World, projectId: string): Promise<Truth> {
  const events = await database.sql<Omit<TrueEvent, 'xid'> & { xid: string }>(
    `select replace(id::text, '-', '') as id, issue_id, level, environment, xid::text, ${committedAt},
            not exists (select from events e where e.project_id = j.project_id and e.id = j.id) as gone
       from oracle.events j where project_id = $1`,
    [projectId],
  )
  const changes = await database.sql<Omit<TrueChange, 'xid'> & { xid: string }>(
    `select action || ' ' || issue_id as what, xid::text, ${committedAt},
            count(*) over (partition by statement) > ${mostTold} as bulk
       from oracle.changes where project_id = $1`,
    [projectId],
  )
  const issues = await database.sql<Summary>(
    `select id, short_id, title, culprit, level, platform, status, assigned_to, first_seen, status_changed_at
       from issues where project_id = $1`,
    [projectId],
  )
  return {
    events: new Map(events.map((event) => [event.id, { ...event, xid: BigInt(event.xid) }])),
    changes: changes.map((change) => ({ ...change, xid: BigInt(change.xid) })),
    issues: new Map(issues.map((issue) => [issue.id, sketch(issue)])),
    unresolved: issues.filter((issue) => issue.status === 'unresolved').length,
  }
}

export interface Summary {
  id: string
  short_id: string
  title: string
  culprit: string | null
  level: string
  platform: string
  status: string
  assigned_to: string | null
  first_seen: string | Date
  status_changed_at: string | Date
}

/** What changes only together with an `issue` message. Counts and last_seen follow the events. */
export function sketch(issue: Summary): string {
  const { short_id, title, culprit, level, platform, status, assigned_to } = issue
  const times = [issue.first_seen, issue.status_changed_at].map((time) => new Date(time).toISOString())
  return [short_id, status, assigned_to, level, platform, ...times, title, culprit].join(' | ')
}

/** A time in which a subscription held, and what it owes: what commits after it was in force, and what its cursor asked for. */
export interface Period {
  filters: Filters
  since: bigint | null
  from: number
}

const fits = (list: string[], value: string | null) => list.length === 0 || (value !== null && list.includes(value))

export const matches = (filters: Filters, event: { level: string; environment: string | null }) =>
  fits(filters.level, event.level) && fits(filters.environment, event.environment)

const begun = (period: Period, { xid, at }: { xid: bigint; at: number }) =>
  at > period.from || (period.since !== null && xid >= period.since)

/** An event that matched one filter and not the next may come late enough to be left out; one that matched all may not. */
export function isOwed(periods: Period[], event: TrueEvent): boolean {
  for (let index = periods.length - 1; index >= 0; index--) {
    if (!matches(periods[index]!.filters, event)) return false
    if (begun(periods[index]!, event)) return true
  }
  return false
}

export const isChangeOwed = (periods: Period[], change: TrueChange) => periods.some((period) => begun(period, change))
