import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createSampler } from '../../server/relay/sampler.ts'

test('A burst of 200 events is shown whole, and nothing is said of it', () => {
  const sampler = createSampler(0)
  for (let n = 0; n < 200; n += 1) assert.equal(sampler.take(1), true)
  assert.equal(sampler.report(), null)
})

test('Of 10,000 events a second 200 are shown, evenly, and the count says so', () => {
  const sampler = createSampler(0)
  const second = (from: number) => Array.from({ length: 10_000 }, (_, n) => sampler.take(from + n / 10))
  second(0)
  sampler.report()
  const shown = second(1_000)
  const counted = sampler.report()
  assert.equal(counted?.events, 10_000)
  assert.ok(counted && counted.shown >= 195 && counted.shown <= 205, `${counted?.shown} were shown`)
  const firstHalf = shown.slice(0, 5_000).filter(Boolean).length
  assert.ok(firstHalf >= 90 && firstHalf <= 110, `${firstHalf} of them in the first half`)
  assert.equal(sampler.report(), null, 'the count begins anew')
})

test('When the storm is over everything is shown again', () => {
  const sampler = createSampler(0)
  for (let n = 0; n < 1_000; n += 1) sampler.take(0)
  for (let n = 0; n < 100; n += 1) assert.equal(sampler.take(1_000 + n * 5), true)
})
