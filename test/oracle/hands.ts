// People: some act on issues through the API, some type SQL. What they do may fail for a database that is away, a
// deadlock, a lock; nothing else.

import type pg from 'pg'
import { createRandom, type Random } from '../support/random.ts'
import type { Fleet } from './fleet.ts'
import { pause } from './pace.ts'
import type { Story } from './story.ts'
import type { Traffic } from './traffic.ts'
import { isAway, isContention, type World } from './world.ts'

export interface Hands {
  /** Resolves when no transaction of theirs is open. */
  stop(): Promise<void>
}

export interface HandsOptions {
  world: World
  fleet: Fleet
  story: Story
  traffic: Traffic
  seed: number
  /** Milliseconds between two deeds, on average. */
  every: number
}

/** By hand in one project at most about so many issues: who changes all of them holds their locks for as long as it takes. */
const mostMade = 1_000

export function startHands({ world, fleet, story, traffic, seed, every }: HandsOptions): Hands {
  const life = new AbortController()
  const { signal } = life

  // Through the API.

  async function act(random: Random): Promise<void> {
    const project = random.pick(world.projects)
    const recent = traffic.issues.get(project.id)!
    if (recent.length === 0) return
    const id = random.pick(recent)
    const action = random.pick([
      ...['resolve', 'resolve', 'resolve', 'unresolve', 'unresolve', 'unresolve', 'archive', 'assign', 'assign'],
      ...(random.below(8) === 0 ? ['discard', 'delete'] : []),
    ])
    const body = action === 'assign' ? { assigned_to: random.pick(['ada', 'grace', null]) } : {}
    const response = await fetch(`${await fleet.pick(random)}/api/v1/issues/${id}/${action}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${world.token}` },
      body: JSON.stringify(body),
    }).catch(() => null)
    const text = (await response?.text().catch(() => '')) ?? ''
    // 404: somebody has deleted it.
    if (response && ![200, 404, 409, 503].includes(response.status)) {
      story.wrong(`${action} of issue ${id} is answered ${response.status} ${text.slice(0, 300)}`)
    }
  }

  async function acting(random: Random): Promise<void> {
    while (!signal.aborted) {
      await act(random)
      await pause(random.below(every), signal)
    }
  }

  // By hand.

  const status = (random: Random) => random.pick(['resolved', 'unresolved', 'unresolved', 'archived'])
  const hex = (random: Random) => `HAND-${random.hex(12)}x`

  type Deed = (on: pg.Client, projectId: string, random: Random) => Promise<unknown>

  const insertIssues = (on: pg.Client, projectId: string, count: number, random: Random) =>
    on.query(
      `insert into issues (project_id, short_id, title, culprit, level)
       select $1, $2 || n, left('by hand ' || n || repeat(' é', 100), 190), repeat('è', 190), 'error' from generate_series(1, $3) n
        where (select count(*) from issues where project_id = $1 and short_id like 'HAND-%') < $4`,
      [projectId, hex(random), count, mostMade],
    )
  const insertEvents = (on: pg.Client, projectId: string, count: number) =>
    on.query(
      `insert into events (project_id, issue_id, title, level)
       select project_id, id, 'never', 'error' from issues where project_id = $1 limit $2`,
      [projectId, count],
    )
  const someIssue = 'id = (select id from issues where project_id = $1 order by random() limit 1)'

  const deeds: Record<string, Deed> = {
    'updates one issue': (on, projectId, random) =>
      on.query(`update issues set status = $2 where project_id = $1 and ${someIssue}`, [projectId, status(random)]),
    'renames one issue': (on, projectId, random) =>
      on.query(`update issues set culprit = $2 where project_id = $1 and ${someIssue}`, [projectId, random.hex(8)]),
    'updates many issues': (on, projectId, random) =>
      on.query('update issues set status = $2 where project_id = $1 and id % 5 = $3', [
        projectId,
        status(random),
        random.below(5),
      ]),
    'updates all issues': (on, projectId, random) =>
      on.query('update issues set status = $2 where project_id = $1', [
        projectId,
        random.pick(['unresolved', 'resolved']),
      ]),
    'assigns in two projects': (on, _, random) =>
      on.query('update issues set assigned_to = $1 where id % 7 = 0', [random.pick(['ada', 'grace', null])]),
    'swaps and swaps back': async (on, projectId) => {
      await on.query('begin')
      await on.query(`update issues set assigned_to = 'nobody' where project_id = $1 and id % 3 = 0`, [projectId])
      await on.query('savepoint here')
      await on.query(`update issues set status = 'archived' where project_id = $1`, [projectId])
      await on.query('rollback to here')
      await on.query('commit')
    },
    'rolls everything back': async (on, projectId, random) => {
      await on.query('begin')
      await insertEvents(on, projectId, 20)
      await insertIssues(on, projectId, 3, random)
      await on.query(`update issues set status = 'archived', title = 'never' where project_id = $1`, [projectId])
      await insertEvents(on, projectId, 2)
      await on.query('rollback')
    },
    'keeps a transaction open': async (on, projectId, random) => {
      await on.query('begin')
      await on.query(`update issues set status = $2 where project_id = $1 and ${someIssue}`, [
        projectId,
        status(random),
      ])
      await pause(200 + random.below(2_000), signal)
      await on.query(random.pick(['commit', 'rollback']))
    },
    'keeps an insert open and rolls it back': async (on, projectId, random) => {
      await on.query('begin')
      await insertEvents(on, projectId, 5)
      await pause(200 + random.below(1_500), signal)
      await on.query('rollback')
    },
    'makes an issue': (on, projectId, random) => insertIssues(on, projectId, 1, random),
    'makes 60 issues': (on, projectId, random) => insertIssues(on, projectId, 60, random),
    'makes 600 issues at once': (on, projectId, random) => insertIssues(on, projectId, 600, random),
    'deletes an issue': (on, projectId) =>
      on.query(`delete from issues where project_id = $1 and ${someIssue}`, [projectId]),
    'deletes what was made by hand': (on, projectId) =>
      on.query("delete from issues where project_id = $1 and short_id like 'HAND-%'", [projectId]),
    'deletes a few issues': (on, projectId, random) =>
      on.query('delete from issues where project_id = $1 and id % 23 = $2', [projectId, random.below(23)]),
  }
  const names = Object.keys(deeds)

  async function typing(name: string, random: Random): Promise<void> {
    let on: pg.Client | null = null
    while (!signal.aborted) {
      await pause(50 + random.below(2 * every), signal)
      if (signal.aborted) break
      const deed = random.pick(names)
      const projectId = random.pick(world.projects).id
      try {
        if (!on) {
          on = await world.database.connect(name)
          const mine = on
          mine.on('end', () => {
            if (on === mine) on = null
          })
          await mine.query("set lock_timeout = '2s'; set statement_timeout = '20s'")
        }
        await deeds[deed]!(on, projectId, random)
        story.note(name, `${deed} of project ${projectId}`)
      } catch (error) {
        const { code, message } = error as { code?: string; message: string }
        story.note(name, `${deed} of project ${projectId}: ${code ?? ''} ${message}`)
        if (!isAway(error) && !isContention(error)) story.wrong(`SQL by hand, ${deed}: ${code} ${message}`)
        const failed: pg.Client | null = on
        await failed?.query('rollback').catch(() => {
          on = null
          return failed.end().catch(() => {})
        })
      }
    }
    await on?.end().catch(() => {})
  }

  const running = [
    acting(createRandom(seed + 200)),
    acting(createRandom(seed + 201)),
    typing('hand 1', createRandom(seed + 210)),
    typing('hand 2', createRandom(seed + 211)),
  ]
  return {
    async stop() {
      life.abort()
      await Promise.all(running)
    },
  }
}
