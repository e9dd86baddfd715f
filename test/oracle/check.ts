// The verdict on the database: what was acknowledged is stored once, nothing else is, and all counts are exact.

import { wrongCounts } from '../support/batch.ts'
import type { Traffic } from './traffic.ts'
import type { World } from './world.ts'

export async function databaseProblems({ database }: World, traffic: Traffic): Promise<string[]> {
  const problems: string[] = []
  const say = (list: string[], what: string) => {
    if (list.length > 0) problems.push(`${list.length} events ${what}: ${list.slice(0, 5)}`)
  }

  const rows = await database.sql<{ id: string; times: number }>(
    "select replace(id::text, '-', '') as id, count(*)::int as times from oracle.events group by 1",
  )
  const stored = new Map(rows.map(({ id, times }) => [id, times]))
  // An event of a discarded issue is taken and not stored; titles and issues of the generator are the same thing.
  const discarded = await database.sql<{ what: string }>(
    "select distinct project_id || ' ' || title as what from oracle.changes where action = 'discarded'",
  )
  const mayDrop = new Set(discarded.map(({ what }) => what))
  const lost: string[] = []
  for (const [id, how] of traffic.acknowledged) {
    const { project_id, title } = traffic.sent.get(id)!
    const fine = stored.has(id) || (how !== 'accepted' && mayDrop.has(`${project_id} ${title}`))
    if (!fine) lost.push(`${id} (${how}, ${title})`)
  }
  say(lost, 'were acknowledged and are not stored')
  say(
    rows.filter(({ times }) => times > 1).map(({ id }) => id),
    'are stored twice',
  )
  say(
    [...stored.keys()].filter((id) => !traffic.sent.has(id)),
    'are stored and were never sent',
  )
  say(
    [...traffic.sent.keys()].filter((id) => !traffic.acknowledged.has(id)),
    'were never answered',
  )

  const differ = async (name: string, is: string, shouldBe: string) => {
    const found = await database.sql(`
      (select 'is' as it, x.* from (${is} except all ${shouldBe}) x)
      union all (select 'should be', x.* from (${shouldBe} except all ${is}) x) limit 6`)
    if (found.length > 0) problems.push(`${name}: ${JSON.stringify(found)}`)
  }
  await differ(
    'events of issues that exist',
    'select project_id, id, issue_id from events',
    `select e.project_id, e.id, e.issue_id from oracle.events e
       where exists (select from issues i where i.project_id = e.project_id and i.id = e.issue_id)`,
  )
  await differ(
    'project_hourly',
    'select project_id, hour, level, event_count from project_hourly',
    `select project_id, date_trunc('hour', received_at, 'UTC'), level, count(*) from oracle.events group by 1, 2, 3`,
  )
  await database.sql('select fold_issue_tags(id, 1000000) from projects')
  await differ(
    'issue_tags',
    "select project_id, issue_id, value, event_count from issue_tags where key = 'door'",
    `select project_id, issue_id, payload -> 'tags' ->> 'door', count(*) from events group by 1, 2, 3`,
  )
  await differ(
    'event_ids',
    'select project_id, id from oracle.events',
    'select project_id, event_id from event_ids where (project_id, event_id) in (select project_id, id from oracle.events)',
  )
  return [...problems, ...(await wrongCounts(database, { deleted: true }))]
}
