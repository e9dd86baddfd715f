// Adds the tags that batches counted to issue_tags, about once a second. Batches only append, see db/ingest_batch.sql.
// Whoever wrote them, this process, another or a person: the table says what is due.

import type pg from 'pg'
import type { Log } from '../log.ts'
import type { Service } from '../service.ts'

const interval = 1_000
/** Batches in one call. */
const most = 1_000

export interface TagFolder extends Service {
  /** All that is there, now. */
  fold(): Promise<void>
}

export function createTagFolder(pool: pg.Pool, log: Log): TagFolder {
  let timer: NodeJS.Timeout | undefined
  let folding: Promise<void> | undefined

  async function foldAll(): Promise<void> {
    const { rows } = await pool.query<{ project_id: string }>('select distinct project_id from issue_tag_deltas')
    for (const { project_id } of rows) await foldProject(project_id)
  }

  async function foldProject(projectId: string): Promise<void> {
    for (;;) {
      const { rows } = await pool.query<{ folded: number }>('select fold_issue_tags($1, $2) as folded', [
        projectId,
        most,
      ])
      if (rows[0]!.folded < most) return
    }
  }

  function fold(): Promise<void> {
    folding ??= foldAll().finally(() => {
      folding = undefined
    })
    return folding
  }

  const attempt = () => fold().catch((error) => log.warn('fold.failed', { error }))

  return {
    name: 'tags',
    async start() {
      // One that takes longer than its second is not asked for again, and would not fail once for each.
      timer = setInterval(() => {
        if (!folding) void attempt()
      }, interval)
    },
    async stop() {
      clearInterval(timer)
      await folding?.catch(() => {})
      await attempt()
    },
    fold,
  }
}
