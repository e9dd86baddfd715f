// What one event costs before it is written: parsed, scrubbed, normalised, grouped. Beside it JSON.parse of the same bytes,
// which is the floor. Microseconds at the median, one event at a time, on one core; the process has only this to do, so
// garbage is in the figures as it comes.

import { readFileSync } from 'node:fs'
import { parseEnvelope } from '../server/ingest/envelope.ts'
import { parseEvent } from '../server/ingest/event.ts'
import { exceptionsFrom } from '../server/ingest/exceptions.ts'
import { crashFrame } from '../server/ingest/frames.ts'
import { countingOf, groupingOf } from '../server/ingest/grouping/grouping.ts'
import { createSamples } from './events.ts'
import { type Bench, type Context, type Measured, quantile, rounded } from './figure.ts'

const sizes = {
  /** As all other figures send it. */
  small: () => createSamples(Date.now())[0]!.json,
  /** Three exceptions with 30 frames, as @sentry/node 11 sent them; stored as it came. */
  large: () => captured('node-v11.exception-nested-cause.event'),
  /** One with breadcrumbs, tags and a token in a URL: written anew without it. */
  scrubbed: () => captured('node-v11.scope-full.event'),
}

export function parseEvents(size: keyof typeof sizes): Bench {
  return async (context) => {
    const bytes = sizes[size]()
    const now = Date.now()
    const received = { received_at: now, sent_at: now, client_ip: '203.0.113.7', user_agent: 'bench' }
    return besideJson(context, bytes, () => void parseEvent(bytes, received))
  }
}

/** Of that the grouping: exceptions and frames read, components, hashes. */
export const groupEvents: Bench = async (context) => {
  const bytes = sizes.large()
  const event = JSON.parse(bytes.toString()) as Record<string, unknown>
  return besideJson(context, bytes, () => {
    const { counting, main } = countingOf(exceptionsFrom(event))
    groupingOf({
      fingerprint: undefined,
      exceptions: counting,
      main,
      stack: [],
      csp: null,
      message: null,
      crash: crashFrame(main!.frames),
      level: 'error',
      logger: null,
      transaction: null,
      tag: () => null,
    })
  })
}

function besideJson({ rounds, roundMs }: Context, bytes: Buffer, whole: () => void): Measured {
  const floor = () => void JSON.parse(bytes.toString())
  const values: number[] = []
  const floors: number[] = []
  // The first round is for the compiler.
  for (let round = 0; round <= rounds; round++) {
    const floorTimes = timesOf(floor, roundMs / 2)
    const times = timesOf(whole, roundMs / 2)
    if (round === 0) continue
    floors.push(quantile(floorTimes, 0.5))
    values.push(quantile(times, 0.5))
  }
  // Others can only make a round slower.
  const value = Math.min(...values)
  const ceiling = Math.min(...floors)
  return {
    value: rounded(value, 1),
    unit: 'us an event',
    ceiling: rounded(ceiling, 1),
    ratio: rounded(value / ceiling, 2),
    bytes: bytes.length,
    rounds: values.map((one) => rounded(one, 1)),
    ceiling_rounds: floors.map((one) => rounded(one, 1)),
  }
}

/** Microseconds, sorted. */
function timesOf(run: () => void, milliseconds: number): number[] {
  const times: number[] = []
  const end = performance.now() + milliseconds
  for (let before = performance.now(); before < end; ) {
    run()
    const after = performance.now()
    times.push((after - before) * 1000)
    before = after
  }
  return times.sort((a, b) => a - b)
}

function captured(name: string): Buffer {
  const { items } = parseEnvelope(readFileSync(new URL(`../test/fixtures/${name}.envelope`, import.meta.url)))
  return items.find((item) => item.type === 'event')!.payload
}
