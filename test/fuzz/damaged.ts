// Every way in which a captured request is damaged in one place: cut after each byte, each byte flipped, and each value in it
// replaced by a value of each JSON type. They are numbered, so that one can be repeated, and a sample taken.

import { parseEnvelope } from '../../server/ingest/envelope.ts'
import { envelopes } from './corpus.ts'

interface Damage {
  what: string
  bytes: Buffer
}

interface Damaged {
  /** How many there are. */
  count: number
  make(number: number): Damage
}

const replacements: readonly unknown[] = [null, true, -1, 'x\0\ud800', [], {}]

function damagedFrom(fixture: Buffer): Damaged {
  const lines = linesOf(fixture)
  const places = lines.flatMap((line, at) =>
    line.json === undefined ? [] : pathsOf(line.json).map((path) => ({ at, path })),
  )
  return {
    count: 2 * fixture.length + places.length * replacements.length,
    make(number) {
      if (number < fixture.length) return { what: `cut after ${number} bytes`, bytes: fixture.subarray(0, number) }
      const flipped = number - fixture.length
      if (flipped < fixture.length) {
        const bytes = Buffer.from(fixture)
        bytes[flipped]! ^= 0xff
        return { what: `byte ${flipped} flipped`, bytes }
      }
      const left = flipped - fixture.length
      const { at, path } = places[Math.floor(left / replacements.length)]!
      const value = replacements[left % replacements.length]
      const copy = lines.map((line, index) =>
        index === at ? Buffer.from(replaced(line.json, path, value)) : line.bytes,
      )
      return {
        what: `line ${at + 1}, ${path.join('.')}: ${JSON.stringify(value)}`,
        bytes: Buffer.concat(copy.flatMap((line) => [line, Buffer.from('\n')])),
      }
    },
  }
}

/** Of all fixtures, mixed: numbers that follow each other are far apart, and `count` of them are all there are. */
export function createDamages(): Damaged {
  const all = envelopes.map(damagedFrom)
  const count = all.reduce((sum, one) => sum + one.count, 0)
  return {
    count,
    make(number) {
      let left = Number((BigInt(number) * prime) % BigInt(count))
      for (const [index, one] of all.entries()) {
        if (left >= one.count) {
          left -= one.count
          continue
        }
        const { what, bytes } = one.make(left)
        return { what: `fixture ${index}: ${what}`, bytes }
      }
      throw new Error(`there is no damage ${number}`)
    },
  }
}

/** Larger than any count, so it shares no factor with it. */
const prime = 1_000_000_007n

interface Line {
  bytes: Buffer
  /** Undefined for a payload that is none. */
  json: unknown
}

/** Without the lengths of payloads that are JSON: they may change. */
function linesOf(fixture: Buffer): Line[] {
  const header = fixture.subarray(0, fixture.indexOf('\n'))
  const lines: Line[] = [{ bytes: header, json: jsonOf(header) }]
  for (const item of parseEnvelope(fixture).items) {
    const json = jsonOf(item.payload)
    const { length: _, ...rest } = item.header
    const itemHeader = json === undefined ? item.header : rest
    lines.push({ bytes: Buffer.from(JSON.stringify(itemHeader)), json: itemHeader }, { bytes: item.payload, json })
  }
  return lines
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    return undefined
  }
}

type Path = (string | number)[]

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  return [path, ...Object.entries(value).flatMap(([key, inner]) => pathsOf(inner, [...path, key]))]
}

function replaced(json: unknown, path: Path, value: unknown): string {
  if (path.length === 0) return JSON.stringify(value)
  const copy = structuredClone(json)
  let inner = copy as Record<string, unknown>
  for (const key of path.slice(0, -1)) inner = inner[key] as Record<string, unknown>
  inner[path.at(-1)!] = value
  return JSON.stringify(copy)
}
