// What SDKs say they threw away, summed: https://develop.sentry.dev/sdk/telemetry/client-reports/.

import { sql } from 'kysely'
import type { Db } from '../db/pool.ts'

export interface ClientReportSum {
  reason: string
  category: string
  quantity: number
  /** The last hour in which there was one. */
  last_hour: string
}

export interface ClientReports {
  /** Of whole hours, from the one that holds `since`; the most first. */
  sums(projectId: string, range: { since?: Date | undefined; until?: Date | undefined }): Promise<ClientReportSum[]>
}

export function createClientReports(db: Db): ClientReports {
  return {
    async sums(projectId, { since, until }) {
      const from = since ? sql`${since}::timestamptz` : sql`now() - interval '24 hours'`
      let query = db
        .selectFrom('client_reports')
        .select(['reason', 'category'])
        .select(sql<string>`sum(quantity)`.as('quantity'))
        .select(sql<Date>`max(hour)`.as('last_hour'))
        .where('project_id', '=', projectId)
        .where(sql<boolean>`hour >= date_trunc('hour', ${from}, 'UTC')`)
      if (until) query = query.where('hour', '<', until)
      const rows = await query
        .groupBy(['reason', 'category'])
        .orderBy(sql`sum(quantity)`, 'desc')
        .orderBy('reason')
        .orderBy('category')
        .execute()
      return rows.map((row) => ({
        reason: row.reason,
        category: row.category,
        quantity: Number(row.quantity),
        last_hour: row.last_hour.toISOString(),
      }))
    },
  }
}
