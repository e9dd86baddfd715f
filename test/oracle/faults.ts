// What goes wrong in a data centre; each is over when its promise resolves.

import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { createRandom, type Random } from '../support/random.ts'
import type { Fleet, Slot } from './fleet.ts'
import { pause } from './pace.ts'
import type { Story } from './story.ts'
import { isAway, isContention, type World } from './world.ts'

export interface Faults {
  /** Resolves when the last one is over. */
  stop(): Promise<void>
  /** How often each was made. */
  counts: Record<string, number>
}

export interface FaultsOptions {
  world: World
  fleet: Fleet
  story: Story
  seed: number
  /** Milliseconds between two of them. */
  every: number
  /** Names of those to make; all without it. */
  only?: string[] | undefined
  /** The last server is never ended. */
  spare: boolean
}

type Fault = (random: Random) => Promise<unknown>

const names = [
  'mesher',
  'mesher listener',
  'mesher heartbeat',
  'mesher writer 1',
  'mesher writer 2',
  'mesher writer blocked',
]

export function startFaults({ world, fleet, story, seed, every, only, spare }: FaultsOptions): Faults {
  const { database } = world
  const mortal = spare ? fleet.slots.slice(0, -1) : fleet.slots
  const life = new AbortController()

  const terminate = (which: string, most: number) =>
    database.sql(
      `select pg_terminate_backend(pid) from (select pid from pg_stat_activity
         where datname = current_database() and application_name like $1 order by random() limit $2) x`,
      [which, most],
    )

  /** By a stranger, whose connection may end with PostgreSQL. */
  async function stranger(work: (on: pg.Client) => Promise<unknown>): Promise<void> {
    let on: pg.Client | null = null
    try {
      on = await database.connect('a stranger')
      await work(on)
    } catch (error) {
      if (!isAway(error) && !isContention(error)) throw error
    } finally {
      await on?.end().catch(() => {})
    }
  }

  /** The network swallows what is on the way, and later says so by ending the connections. */
  async function swallow(slot: Slot, which: string[], ms: number): Promise<void> {
    for (const name of which) slot.proxy.swallow(name)
    await delay(ms)
    for (const name of which) {
      slot.proxy.refuse(name)
      slot.proxy.allow(name)
    }
  }

  async function signalPostgres(...signals: [NodeJS.Signals, number][]): Promise<void> {
    const pid = await world.postmaster()
    for (const [signal, wait] of signals) {
      try {
        if (pid) process.kill(pid, signal)
      } catch {
        return
      }
      await delay(wait)
    }
  }

  function garbage(random: Random): string {
    return random.pick([
      random.hex(random.below(2_000)),
      '',
      '{',
      '[]',
      'null',
      '{"action":"events"}',
      `{"action":"heartbeat","from":${random.below(9)},"beat":"x","cursor":"-1"}`,
      '{"project_id":"1","action":"events","unresolved":-5,"version":0,"cursor":"1","events":[]}',
      '{"project_id":"1","action":"issues","unresolved":1,"version":99999999,"cursor":"x","issues":[{}]}',
      `{"project_id":"1","action":"bulk","unresolved":${random.below(9)}}`,
      '{"action":"access","everybody":"out"}',
      '\u{1F4A3}'.repeat(1_500),
    ])
  }

  const faults: Record<string, Fault> = {
    'backends terminated': (random) => terminate('mesher%', 1 + random.below(6)),
    'listeners terminated': () => terminate('mesher listener', 9),
    'writers terminated': () => terminate('mesher writer%', 9),
    'listener swallowed': (random) =>
      swallow(
        random.pick(fleet.slots),
        ['mesher listener', 'mesher heartbeat'].slice(0, 1 + random.below(2)),
        1_000 + random.below(6_000),
      ),
    'pool swallowed': (random) => swallow(random.pick(fleet.slots), ['mesher'], 500 + random.below(2_500)),
    'writers swallowed': (random) => swallow(random.pick(fleet.slots), ['mesher writer 1'], 500 + random.below(2_500)),
    'all swallowed': (random) => swallow(random.pick(fleet.slots), names, 500 + random.below(3_000)),
    'database out of reach': async (random) => {
      const { proxy } = random.pick(fleet.slots)
      names.forEach(proxy.refuse)
      await delay(300 + random.below(3_500))
      names.forEach(proxy.allow)
    },
    'answers late': async (random) => {
      const { proxy } = random.pick(fleet.slots)
      const which = random.shuffled(names).slice(0, 1 + random.below(3))
      which.forEach(proxy.hold)
      await delay(200 + random.below(1_500))
      which.forEach(proxy.release)
    },
    'server killed': async (random) => fleet.end(random.pick(mortal), 'SIGKILL'),
    'server rolled': async (random) => fleet.end(random.pick(mortal), 'SIGTERM'),
    'server frozen': async (random) => {
      const { child } = random.pick(fleet.slots).process
      child.kill('SIGSTOP')
      await delay(500 + random.below(3_000))
      child.kill('SIGCONT')
    },
    'postgres stopped, smart': async () => {
      // Smart waits for all to leave and lets nobody in; nobody leaves.
      await signalPostgres(['SIGTERM', 1_500], ['SIGINT', 0])
    },
    'postgres stopped, fast': () => signalPostgres(['SIGINT', 0]),
    'postgres stopped, immediate': () => signalPostgres(['SIGQUIT', 0]),
    'garbage on the channel': (random) =>
      stranger(async (on) => {
        for (let n = 0; n < 30; n++) await on.query("select pg_notify('mesher', $1)", [garbage(random)])
      }),
    'queue held': (random) =>
      stranger(async (holder) => {
        await holder.query('listen elsewhere')
        await holder.query('begin')
        await holder.query('select 1')
        await stranger(async (on) => {
          for (let n = 0; n < 30; n++) {
            await on.query("select pg_notify('elsewhere', i || repeat('x', 7900)) from generate_series(1, 100) i")
          }
        })
        await delay(300 + random.below(2_500))
        await holder.query('rollback')
      }),
    // More than the buffers of a socket that is not read hold.
    flood: (random) =>
      stranger(async (on) => {
        const project = random.pick(world.projects).id
        await on.query("set lock_timeout = '2s'")
        await on.query(
          `insert into issues (project_id, short_id, title, culprit, level)
           select $1, 'HAND-' || gen_random_uuid() || 'x', repeat('é', 190), repeat('è', 190), 'info' from generate_series(1, 300)`,
          [project],
        )
        for (let n = 0; n < 24; n++) {
          await on.query(
            `update issues set assigned_to = 'flood ' || $2
              where id = any (array(select id from issues where project_id = $1 and short_id like 'HAND-%' order by id limit 400))`,
            [project, n],
          )
        }
      }),
    'connections used up': async (random) => {
      const open: pg.Client[] = []
      try {
        for (;;) open.push(await database.connect('a crowd'))
      } catch (error) {
        if (!isAway(error)) throw error
      }
      await terminateBeside(open, random)
      await delay(300 + random.below(2_000))
      await Promise.all(open.map((one) => one.end().catch(() => {})))
    },
  }

  const { disk } = world
  if (disk) {
    faults['disk full'] = async (random) => {
      await disk.fill()
      await delay(500 + random.below(2_500))
      await disk.free()
    }
  }

  /** Those that end find their place taken. */
  async function terminateBeside(open: pg.Client[], random: Random): Promise<void> {
    const by = open[0]
    await by
      ?.query(
        `select pg_terminate_backend(pid) from (select pid from pg_stat_activity
           where application_name like 'mesher %' order by random() limit $1) x`,
        [1 + random.below(8)],
      )
      .catch(() => {})
    for (;;) {
      const one = await database.connect('a crowd').catch(() => null)
      if (!one) return
      open.push(one)
    }
  }

  const counts: Record<string, number> = {}

  async function run(random: Random): Promise<void> {
    const known = Object.keys(faults).filter((name) => !only || only.includes(name))
    // All of them, in another order each time.
    for (let due: string[] = []; !life.signal.aborted; ) {
      if (due.length === 0) due = random.shuffled(known)
      const name = due.pop()
      if (name === undefined) return
      await pause(random.below(every) + every / 2, life.signal)
      if (life.signal.aborted) return
      story.note('fault', name)
      counts[name] = (counts[name] ?? 0) + 1
      await faults[name]!(random)
      story.note('fault', `${name} is over`)
    }
  }

  // Two at a time: what is mended by one may be broken by the other.
  const running = Promise.all([run(createRandom(seed + 300)), run(createRandom(seed + 301))])
  running.catch(() => {})
  return {
    counts,
    async stop() {
      life.abort()
      await running
    },
  }
}
