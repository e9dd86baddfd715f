import assert from 'node:assert/strict'
import { test } from 'node:test'
import { textArray, timestampArray } from '../../server/write/encode.ts'

/** The elements of an array in PostgreSQL's binary format; null where there is none. */
function elementsOf(array: Buffer): (Buffer | null)[] {
  const elements: (Buffer | null)[] = []
  for (let at = 20; at < array.length; ) {
    const length = array.readInt32BE(at)
    elements.push(length < 0 ? null : array.subarray(at + 4, at + 4 + length))
    at += 4 + Math.max(0, length)
  }
  return elements
}

test('Texts of every length and script are written as UTF-8, and absent ones as null', () => {
  const texts = [
    '',
    'a',
    null,
    'é',
    '€uro',
    '😀',
    'x'.repeat(32),
    'x'.repeat(33),
    `${'x'.repeat(31)}ü`,
    'ж'.repeat(500),
  ]
  const array = textArray(texts)
  assert.equal(array.readInt32BE(4), 1, 'it says that it has nulls')
  assert.equal(array.readInt32BE(12), texts.length)
  assert.deepEqual(
    elementsOf(array).map((element) => element?.toString() ?? null),
    texts,
  )
  assert.equal(textArray(['a']).readInt32BE(4), 0)
  assert.equal(textArray([]).length, 12)
})

test('Times are microseconds since 2000, before it and long after it, too', () => {
  const times = [
    Date.UTC(2026, 0, 1),
    1_764_000_000_000.123,
    946_684_800_000,
    946_684_799_999.5,
    0,
    253_402_300_799_000,
  ]
  assert.deepEqual(
    elementsOf(timestampArray(times)).map((element) => element!.readBigInt64BE(0)),
    times.map((time) => BigInt(Math.round((time - 946_684_800_000) * 1000))),
  )
})
