// One project's subscribers as the relay sees them, and one socket's place among them. There may be ten thousand places
// of a project: what they have in common stands here once, and a place is two references.

import type { Change } from './messages.ts'
import type { Sampler } from './sampler.ts'

export interface Tapped {
  /** Null for messages that are no change: counts and resyncs. */
  change: Change | null
  /** Of a count, so that an older one than the snapshot's is left out. */
  version: number | null
  text: string
  /** False for an event that a storm's samples leave out. */
  shown: boolean
}

/** Everything that a project's subscribers are sent while a socket is on its way to become one. */
export interface Tap {
  readonly messages: Tapped[]
  readonly overflow: boolean
}

/** What the sockets with the same filters subscribe to. */
interface TopicSet {
  topics: readonly string[]
  sockets: number
}

/** A joining socket that would have to be sent more than this reads the tables again. */
const tapBytes = 512 * 1024

export class Stream {
  readonly project_id: string
  readonly sampler: Sampler
  unresolved = 0
  version = -1
  places = 0
  readonly #topics = new Map<string, number>()
  readonly #sets = new Map<string, TopicSet>()
  readonly #taps = new Set<OpenTap>()

  constructor(projectId: string, sampler: Sampler) {
    this.project_id = projectId
    this.sampler = sampler
  }

  /** Whether somebody has subscribed to it. */
  has(topic: string): boolean {
    return this.#topics.has(topic)
  }

  get isTapped(): boolean {
    return this.#taps.size > 0
  }

  add(given: string[]): readonly string[] {
    const key = given.join('\n')
    const known = this.#sets.get(key)
    if (known) {
      known.sockets += 1
      return known.topics
    }
    this.#sets.set(key, { topics: given, sockets: 1 })
    for (const topic of given) this.#topics.set(topic, (this.#topics.get(topic) ?? 0) + 1)
    return given
  }

  remove(topics: readonly string[]) {
    const key = topics.join('\n')
    const set = this.#sets.get(key)
    if (!set) return
    set.sockets -= 1
    if (set.sockets > 0) return
    this.#sets.delete(key)
    for (const topic of topics) {
      const count = this.#topics.get(topic)! - 1
      if (count > 0) this.#topics.set(topic, count)
      else this.#topics.delete(topic)
    }
  }

  open(sample: boolean): OpenTap {
    const tap: OpenTap = { sample, messages: [], bytes: 0, overflow: false }
    this.#taps.add(tap)
    return tap
  }

  close(tap: Tap) {
    this.#taps.delete(tap as OpenTap)
  }

  collect(message: Tapped) {
    for (const tap of this.#taps) {
      if (tap.sample && !message.shown) continue
      tap.bytes += Buffer.byteLength(message.text)
      if (tap.bytes > tapBytes) tap.overflow = true
      else tap.messages.push(message)
    }
  }
}

interface OpenTap extends Tap {
  sample: boolean
  bytes: number
  overflow: boolean
}

/** What a place asks of the relay. */
export interface Present {
  cursor(): string
  /** From where a socket that just lost messages has to resume. */
  gapCursor(): string
  left(stream: Stream): void
}

export class Place {
  /** One text for all of its sockets. */
  readonly project_id: string
  readonly #present: Present
  readonly #stream: Stream
  #left = false

  constructor(stream: Stream, present: Present) {
    this.project_id = stream.project_id
    this.#stream = stream
    this.#present = present
    stream.places += 1
  }

  /** Publishes to the topics given from now on. Returns them as `removeTopics` is to be given them: equal ones are one. */
  addTopics(topics: string[]): readonly string[] {
    return this.#stream.add(topics)
  }

  removeTopics(topics: readonly string[]) {
    if (topics.length > 0) this.#stream.remove(topics)
  }

  /** With `sample`, what a storm's samples leave out is left out here too. */
  tap(sample: boolean): Tap {
    return this.#stream.open(sample)
  }

  untap(tap: Tap) {
    this.#stream.close(tap)
  }

  /** The latest count and cursor that subscribers were told. */
  present(): { unresolved: number; cursor: string } {
    return { unresolved: this.#stream.unresolved, cursor: this.#present.cursor() }
  }

  /** The first snapshot of a project says where its count begins. */
  learn({ unresolved, version }: { unresolved: number; version: number }) {
    if (this.#stream.version !== -1) return
    this.#stream.version = version
    this.#stream.unresolved = unresolved
  }

  gapCursor(): string {
    return this.#present.gapCursor()
  }

  leave() {
    if (this.#left) return
    this.#left = true
    this.#stream.places -= 1
    if (this.#stream.places === 0) this.#present.left(this.#stream)
  }
}
