// Replays for sockets. After a restart a thousand dashboards come back with the cursor of the last message that all of
// them heard: those who ask the same wait in line together, and are read for once.
//
// A place in line is given before the database is asked, so that each can open its tap first; the statement goes out when
// everybody who stood there has had his turn of the event loop. Nobody is given a snapshot from before he asked for one.

import type { Position } from './cursor.ts'
import type { Change } from './messages.ts'
import type { Replay, Snapshot } from './replay.ts'

export interface SharedSnapshot extends Snapshot {
  /** Of all changes in the pages that were read so far. */
  keys: ReadonlySet<string>
}

export interface Reading {
  /** What its members who ask in the same turn of the event loop share. May be asked for again when it failed. */
  snapshot(): Promise<SharedSnapshot>
  /** Each member once: the place in line is free when the last one has left. */
  leave(): void
}

/** Resolves when it is this socket's turn. */
export type Line = (projectId: string, since: Position | null) => Promise<Reading>

export interface LineOptions {
  read: Replay['read']
  /** Bounds how many replays are read and sent at the same time. */
  limit<T>(work: () => Promise<T>): Promise<T>
}

export function createLine({ read, limit }: LineOptions): Line {
  const forming = new Map<string, Group>()

  function form(projectId: string, since: Position | null, key: string): Group {
    const group = new Group(() => read(projectId, since))
    forming.set(key, group)
    const begin = () => {
      forming.delete(key)
      group.begin()
      return group.left
    }
    // The present is one row: nobody waits for others' replays because of it.
    setImmediate(() => void (since ? limit(begin) : begin()))
    return group
  }

  return async (projectId, since) => {
    const key = since ? `${projectId} ${since.epoch} ${since.xid}` : projectId
    const group = forming.get(key) ?? form(projectId, since, key)
    group.members += 1
    await group.begun
    return group
  }
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

class Group implements Reading {
  members = 0
  readonly begun: Promise<void>
  readonly left: Promise<void>
  begin = () => {}
  #free = () => {}
  #pending: Promise<SharedSnapshot> | null = null
  readonly #read: () => Promise<Snapshot>

  constructor(read: () => Promise<Snapshot>) {
    this.#read = read
    this.begun = new Promise((resolve) => {
      this.begin = resolve
    })
    this.left = new Promise((resolve) => {
      this.#free = resolve
    })
  }

  snapshot(): Promise<SharedSnapshot> {
    this.#pending ??= this.#issue()
    return this.#pending
  }

  async #issue(): Promise<SharedSnapshot> {
    await nextTurn()
    this.#pending = null
    return withSharedPages(await this.#read())
  }

  leave() {
    this.members -= 1
    if (this.members === 0) this.#free()
  }
}

/**
 * A page is read once as long as somebody is sending it; the latest is kept for those who come to it next. So a replay
 * costs the pages that its readers are at, be they ten or a thousand.
 */
function withSharedPages(snapshot: Snapshot): SharedSnapshot {
  const keys = new Set<string>()
  const loading = new Map<number, Promise<Change[] | null>>()
  const loaded = new Map<number, WeakRef<Change[]>>()
  let latest: Change[] | null = null

  async function load(number: number): Promise<Change[] | null> {
    const changes = await snapshot.page(number)
    if (changes) {
      latest = changes
      loaded.set(number, new WeakRef(latest))
      for (const { key } of changes) keys.add(key)
    }
    return changes
  }

  return {
    ...snapshot,
    keys,
    async page(number) {
      const alive = loaded.get(number)?.deref()
      if (alive) return alive
      const begun = loading.get(number) ?? load(number).finally(() => loading.delete(number))
      loading.set(number, begun)
      return begun
    },
  }
}
