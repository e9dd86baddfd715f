// The oracle: servers, traffic, people, subscribers and faults on one database; when all is quiet, what everybody holds has
// to be what was committed. A round is one such time and its verdict; a soak is many rounds on the same servers.

import { setTimeout as delay } from 'node:timers/promises'
import { createRandom } from '../support/random.ts'
import type { Scope } from '../support/scope.ts'
import { databaseProblems } from './check.ts'
import { type Client, createClient, tempers } from './client.ts'
import { startFaults } from './faults.ts'
import { type Fleet, startFleet } from './fleet.ts'
import { startHands } from './hands.ts'
import { createReader } from './reader.ts'
import { createStory, type Story } from './story.ts'
import { startTraffic, type Traffic } from './traffic.ts'
import { readTruth } from './truth.ts'
import { createWorld, type World } from './world.ts'

export interface OracleOptions {
  seed: number
  servers: number
  clients: number
  /** Events a second. */
  rate: number
  fsync: boolean
  /** Where that is possible, a disk that may be filled. */
  smallDisk: boolean
  /** Milliseconds between faults. */
  faultEvery: number
  /** Milliseconds between what a person does. */
  handEvery: number
  faults?: string[] | undefined
  /** The last server is never killed nor rolled, so that it is seen to live long. */
  spare: boolean
}

export interface Summary {
  events: number
  messages: number
  connections: number
  gaps: number
  resyncs: number
  faults: Record<string, number>
  rest: Record<string, number>
}

export interface Oracle {
  world: World
  fleet: Fleet
  clients: Client[]
  story: Story
  /** Disturbs for so long, comes to rest, and judges. Throws with everything one needs to find out why. */
  round(ms: number): Promise<Summary>
  /** Events sent in the round that is under way. */
  sent(): number
}

/** Everything that was sent is answered, and everybody holds everything, within this. */
const patience = 120_000

export async function createOracle(scope: Scope, options: OracleOptions): Promise<Oracle> {
  const { seed, rate } = options
  const story = createStory()
  const world = await createWorld(scope, options)
  const fleet = await startFleet(scope, world, story, options.servers)
  let rounds = 0
  await fleet.ready(patience).catch((error: Error) => fail([error.message]))
  const reader = createReader(world, fleet, createRandom(seed + 1))
  const clients = Array.from({ length: options.clients }, (_, index) => {
    const temper = tempers[index % tempers.length]!
    // Two thirds look at the first project.
    const project_id = world.projects[Math.floor(index / tempers.length) % 3 === 2 ? 1 : 0]!.id
    const name = `client ${index + 1} (${temper}, project ${project_id})`
    const random = createRandom(seed + 400 + index)
    return createClient({ name, temper, sample: index % 4 === 3, project_id, world, fleet, reader, story, random })
  })
  scope.after(() => {
    for (const client of clients) client.leave()
  })
  let traffic: Traffic | null = null
  let old = new Set<string>()

  function fail(problems: string[], who: string[] = []): never {
    const said = fleet.slots.flatMap((slot) => slot.process.stderr().trim().split('\n').slice(-5))
    throw new Error(
      [
        `seed ${seed}, round ${rounds}:`,
        ...problems.slice(0, 12),
        ...(problems.length > 12 ? [`and ${problems.length - 12} problems more`] : []),
        '',
        'What happened:',
        ...story.last(40, [...who, 'fault', ...fleet.slots.map((slot) => slot.name)]),
        '',
        'What people did:',
        ...story.last(12, ['hand 1', 'hand 2']),
        '',
        'What servers said last:',
        ...said.map((line) => line.slice(0, 400)),
      ].join('\n'),
    )
  }

  /** Empties what was checked, as a person would; subscribers hear of it. */
  async function clear(): Promise<void> {
    const [row] = await world.database.sql<{ from: string }>(
      'select pg_snapshot_xmin(pg_current_snapshot())::text as from',
    )
    for (const { id } of world.projects) {
      const truth = await readTruth(world, id)
      for (const event of truth.events.keys()) old.add(event)
      for (const change of truth.changes) old.add(change.what)
    }
    for (const client of clients) client.nextRound(BigInt(row!.from))
    await world.database.sql(
      'truncate issues, oracle.events, oracle.changes, event_ids, project_hourly, issue_activity',
    )
  }

  async function settled(): Promise<void> {
    await fleet.ready(patience).catch((error: Error) => fail([...story.wrongs, error.message]))
    await Promise.all(clients.map((client) => client.settle()))
    const truths = new Map<string, Awaited<ReturnType<typeof readTruth>>>()
    for (const { id } of world.projects) truths.set(id, await readTruth(world, id))
    let due = clients.map((client) => ({ client, problems: ['was not asked'] }))
    for (const end = performance.now() + patience / 2; ; await delay(200)) {
      due = due
        .map(({ client }) => ({ client, problems: client.problems(truths.get(client.project_id)!, old) }))
        .filter(({ problems }) => problems.length > 0)
      if (due.length === 0) return
      if (performance.now() > end) break
    }
    const first = due[0]!
    fail(
      [
        ...story.wrongs,
        ...due.slice(0, 5).flatMap(({ client, problems }) => problems.map((problem) => `${client.name} ${problem}`)),
        ...(due.length > 5 ? [`and ${due.length - 5} clients more`] : []),
      ],
      [first.client.name],
    )
  }

  return {
    world,
    fleet,
    clients,
    story,
    sent: () => traffic?.sent.size ?? 0,
    async round(ms) {
      if (rounds > 0) {
        old = new Set()
        await clear()
      }
      rounds += 1
      const mine = { world, fleet, story, seed: seed + rounds * 1_000 }
      const before = clients.map((client) => ({ ...client.counts }))
      const running = startTraffic({ ...mine, rate })
      traffic = running
      const hands = startHands({ ...mine, traffic: running, every: options.handEvery })
      for (const client of clients) client.disturb()
      const faults = startFaults({ ...mine, every: options.faultEvery, only: options.faults, spare: options.spare })
      await delay(ms)
      // Seconds that each took to come to rest.
      const rest: Record<string, number> = {}
      async function timed<T>(what: string, work: Promise<T>): Promise<T> {
        const began = performance.now()
        const done = await work
        rest[what] = Math.round((performance.now() - began) / 100) / 10
        return done
      }
      await timed('faults', faults.stop())
      await timed('hands', hands.stop())
      const answered = running.finish(patience).catch((error: Error) => fail([...story.wrongs, error.message]))
      await timed('traffic', answered)
      await timed('clients', settled())
      const problems = await timed('verdict', databaseProblems(world, running))
      if (problems.length + story.wrongs.length > 0) fail([...story.wrongs, ...problems])
      traffic = null
      const sum = (what: keyof Client['counts']) =>
        clients.reduce((total, client, index) => total + client.counts[what] - before[index]![what], 0)
      return {
        events: running.sent.size,
        messages: sum('messages'),
        connections: sum('connections'),
        gaps: sum('gaps'),
        resyncs: sum('resyncs'),
        faults: faults.counts,
        rest,
      }
    },
  }
}
