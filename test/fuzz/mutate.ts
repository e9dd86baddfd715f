// Seeded mutations of bytes, of JSON values, and of text. Each makes a new value and leaves what it was given alone.

import type { Random } from '../support/random.ts'

/** What parsers trip over, as bytes: signs that end something, escapes, numbers at their limits, broken UTF-8. */
const tokens = [
  '\n',
  '\r\n',
  '\0',
  '"',
  '\\',
  '\\u0000',
  '\\ud800',
  '\\udc00',
  '\\u',
  '{',
  '}',
  '[',
  ']',
  '[[[[[[[[',
  ',',
  ':',
  '{}',
  '[]',
  '{"type":"event"}\n',
  '"length":-1',
  '"length":1e9',
  '"length":99',
  'null',
  'true',
  '-',
  '1e999',
  '-0',
  '0.1e-400',
  'NaN',
  '9007199254740993',
  '18446744073709551616',
  '"__proto__":',
  '"constructor":',
  '\uFEFF',
  '\u2028',
  '💥',
  ' ',
  '\t',
  '/*',
  '=',
  '&',
  '%',
  '%00',
  '%zz',
  ';',
  '..',
  '/',
  '?',
  '#',
  '+',
  '*',
].map((token) => Buffer.from(token))
const brokenUtf8 = [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x80]].map(
  (bytes) => Buffer.from(bytes),
)

type ByteMutation = (random: Random, bytes: Buffer, others: readonly Buffer[]) => Buffer

const byteMutations: ByteMutation[] = [
  function flip(random, bytes) {
    const copy = Buffer.from(bytes)
    for (let n = 1 + random.below(4); n > 0 && copy.length > 0; n--)
      copy[random.below(copy.length)]! ^= 1 << random.below(8)
    return copy
  },
  function overwrite(random, bytes) {
    const copy = Buffer.from(bytes)
    if (copy.length > 0) copy[random.below(copy.length)] = random.below(256)
    return copy
  },
  function cut(random, bytes) {
    return bytes.subarray(0, random.below(bytes.length + 1))
  },
  function behead(random, bytes) {
    return bytes.subarray(random.below(bytes.length + 1))
  },
  function remove(random, bytes) {
    const [from, to] = range(random, bytes)
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)])
  },
  function repeat(random, bytes) {
    const [from, to] = range(random, bytes)
    const piece = bytes.subarray(from, Math.min(to, from + 200))
    return Buffer.concat([
      bytes.subarray(0, to),
      ...Array.from({ length: 1 + random.below(50) }, () => piece),
      bytes.subarray(to),
    ])
  },
  function insert(random, bytes) {
    const at = random.below(bytes.length + 1)
    const token = random.below(5) === 0 ? random.pick(brokenUtf8) : random.pick(tokens)
    return Buffer.concat([bytes.subarray(0, at), token, bytes.subarray(at)])
  },
  function splice(random, bytes, others) {
    const other = random.pick(others)
    return Buffer.concat([
      bytes.subarray(0, random.below(bytes.length + 1)),
      other.subarray(random.below(other.length + 1)),
    ])
  },
  function swap(random, bytes) {
    const [from, to] = range(random, bytes)
    return Buffer.concat([bytes.subarray(to), bytes.subarray(from, to), bytes.subarray(0, from)])
  },
]

function range(random: Random, bytes: Buffer): [from: number, to: number] {
  const from = random.below(bytes.length + 1)
  return [from, from + random.below(Math.min(500, bytes.length - from) + 1)]
}

/** `others` are what pieces are spliced in from. */
export function mutatedBytes(random: Random, bytes: Buffer, others: readonly Buffer[] = [bytes]): Buffer {
  let result = bytes
  for (let n = 1 + random.below(3); n > 0; n--) result = random.pick(byteMutations)(random, result, others)
  return result
}

export function mutatedText(random: Random, text: string): string {
  return mutatedBytes(random, Buffer.from(text)).toString()
}

const nested = (levels: number): unknown => JSON.parse(`${'['.repeat(levels)}${']'.repeat(levels)}`)

/** A value of another type, or of the same and beyond what anybody expects of it. */
const oddities: ((random: Random) => unknown)[] = [
  () => null,
  (random) => random.pick([true, false]),
  (random) => random.pick([0, -0, -1, 0.1, 1e308, -1e308, 5e-324, 2 ** 53, 2 ** 31, 1e11, 253_402_300_800, 20]),
  (random) =>
    random.pick(['', ' ', '\0', '\0\0', '\ud800', 'a\udc00b', '\u202e', '\n\r', '\ufeff', '__proto__', '{{auto}}']),
  (random) =>
    random.pick([
      'true',
      'NaN',
      '-1',
      '1e999',
      '0x10',
      'none',
      '..',
      '{{default}}',
      '[Filtered]',
      '%',
      '%s%s%s',
      '{0}{}',
    ]),
  (random) =>
    random.pick(['2026-02-30T25:61:61Z', '2026-01-01', '0000-00-00T00:00:00Z', '9999-12-31T23:59:59.999999999Z']),
  (random) =>
    random
      .pick(['a', '💥', '\0', '\ud83d', 'ab ', '1', '/', '@', 'a.', "='"])
      .repeat(random.pick([63, 200, 1_025, 9_000])),
  (random) =>
    random.pick(['0', '00', '18446744073709551616', '99999999999999999999', '-1', '9223372036854775808', '1 ']),
  (random) => random.hex(random.pick([1, 31, 32, 33, 64])),
  () => [],
  () => ({}),
  (random) => nested(random.pick([2, 50, 99, 100, 101, 500, 3_000])),
  (random) =>
    Array.from({ length: random.pick([1, 51, 300, 2_000]) }, (_, i) => random.pick([null, i, 'x', [i, i], { a: i }])),
  (random) =>
    JSON.parse(
      random.pick(['{"__proto__":{"a":1}}', '{"constructor":1}', '{"toString":1,"length":-1}', '{"values":1}']),
    ),
  (random) => Object.fromEntries(Array.from({ length: random.pick([1, 60, 1_000]) }, (_, i) => [`k${i}`, i])),
  (random) => ({
    [random.pick(['', '\0', '\ud800', 'a.b', 'values', 'type', 'frames'])]: random.pick([1, 'x', null, []]),
  }),
]

/** A copy with one to three places changed: another value, a member or element less, more, or twice. */
export function mutatedJson(random: Random, value: unknown): unknown {
  let result = value
  for (let n = 1 + random.below(3); n > 0; n--) result = changedSomewhere(random, result)
  return result
}

function changedSomewhere(random: Random, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || random.below(8) === 0) return random.pick(oddities)(random)
  if (Array.isArray(value)) {
    const copy: unknown[] = [...value]
    const at = random.below(copy.length + 1)
    const what = random.below(8)
    if (at === copy.length) copy.push(random.pick(oddities)(random))
    else if (what === 0) copy.splice(at, 1)
    else if (what === 1) copy.splice(at, 0, copy[at])
    else copy[at] = changedSomewhere(random, copy[at])
    return copy
  }
  const entries: [string, unknown][] = Object.entries(value)
  const at = random.below(entries.length + 1)
  const entry = entries[at]
  const what = random.below(12)
  if (entry === undefined)
    entries.push([random.pick(['', '__proto__', 'type', 'values', 'a']), random.pick(oddities)(random)])
  else if (what === 0) entries.splice(at, 1)
  else if (what === 1) entries[at] = [`${entry[0]}\u0000`, entry[1]]
  else entries[at] = [entry[0], changedSomewhere(random, entry[1])]
  return Object.fromEntries(entries)
}

/** JSON of a mutated value; now and then its text is mutated too, so that it is no JSON any more. */
export function mutatedJsonBytes(random: Random, value: unknown, others?: readonly Buffer[]): Buffer {
  const bytes = Buffer.from(JSON.stringify(mutatedJson(random, value)) ?? 'null')
  return random.below(4) === 0 ? mutatedBytes(random, bytes, others) : bytes
}
