// What an archived issue waits for. The columns say it, so that SQL by hand can do the same: see db/triggers.sql for what
// happens when an issue is not archived any more, db/ingest_batch.sql for events, db/triage.sql for time.

import { sql } from 'kysely'
import { AppError } from '../errors.ts'

/** For ever; until it has more events in an hour than it used to; until a time; until it has had so many more events. */
export type Until = 'forever' | 'escalating' | (string & {}) | { events: number }

/** Columns of issues. Throws unprocessable for a time that is over. */
export function archivedUntil(until: Until, now: number) {
  const time = typeof until === 'string' && until !== 'forever' && until !== 'escalating' ? until : null
  if (time !== null && Date.parse(time) <= now) {
    throw new AppError('unprocessable', '"until" is a time that is over: give one in the future')
  }
  return {
    status: 'archived',
    archived_until: time,
    archived_until_event_count: typeof until === 'object' ? eventsFromNow(until.events) : null,
    archived_until_escalating: until === 'escalating',
  }
}

const eventsFromNow = (events: number) => sql<string>`coalesce(
  (select s.event_count from issue_stats s where s.project_id = issues.project_id and s.issue_id = issues.id), 0) + ${events}::bigint`

/** Whether that would change anything: so many events are counted from now, so they always do. */
export function isOtherwise(until: Until) {
  const time = typeof until === 'string' && until !== 'forever' && until !== 'escalating' ? until : null
  return sql<boolean>`(${typeof until === 'object'}::boolean or archived_until_event_count is not null
    or (status, archived_until, archived_until_escalating)
       is distinct from ('archived'::text, ${time}::timestamptz, ${until === 'escalating'}::boolean))`
}
