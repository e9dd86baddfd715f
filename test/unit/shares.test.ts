import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createContention } from '../../server/contention.ts'
import { createQueue, type Queue } from '../../server/write/queue.ts'
import { createShares } from '../../server/write/shares.ts'
import { eventOf, waitingOf } from '../support/batch.ts'

const limits = { batchEvents: 500, batchBytes: 1e6, crowd: 50, crowdBatch: 200 }

function openQueue() {
  return createQueue({ events: 10_000, bytes: 1e9, projectShare: 0.5 })
}

function push(queue: Queue, project: string, events: number) {
  for (let n = 0; n < events; n += 1) queue.push(waitingOf(project, eventOf(`${project} ${n}`)))
}

const projectsOf = (batch: { project_id: string }[]) => [...new Set(batch.map((waiting) => waiting.project_id))]

test('A project that sends alone gets whole batches on every connection', () => {
  const queue = openQueue()
  const shares = createShares(queue, 2, limits)
  push(queue, 'storm', 1_200)
  assert.equal(shares.next(false).batch.length, 500)
  assert.equal(shares.next(false).batch.length, 500)
  assert.equal(shares.next(false).batch.length, 200)
  assert.equal(shares.crowded, false)
})

test('In a storm the others come first and apart, and the crowd has one connection', () => {
  const queue = openQueue()
  const shares = createShares(queue, 2, limits)
  push(queue, 'storm', 1_000)
  push(queue, 'quiet', 3)
  push(queue, 'another', 1)
  const first = shares.next(true)
  assert.deepEqual(projectsOf(first.batch), ['quiet', 'another'])
  assert.equal(first.batch.length, 4)
  const crowd = shares.next(true)
  assert.deepEqual([projectsOf(crowd.batch), crowd.batch.length, crowd.crowded], [['storm'], 200, true])
  assert.equal(shares.crowded, true)
  shares.done(first)
  assert.equal(shares.next(true).batch.length, 0, 'the last connection is kept free')
  push(queue, 'quiet', 1)
  assert.deepEqual(projectsOf(shares.next(true).batch), ['quiet'])
  shares.done(crowd)
  assert.equal(shares.crowded, false)
})

test('Others who always have something to write do not starve a crowd', () => {
  for (const connections of [1, 2, 4]) {
    const queue = openQueue()
    const shares = createShares(queue, connections, limits)
    push(queue, 'storm', 1_000)
    const underway = []
    const written = []
    for (let turn = 0; turn < 12; turn += 1) {
      push(queue, `quiet ${turn}`, 1)
      if (underway.length === connections) shares.done(underway.shift()!)
      const share = shares.next(true)
      if (share.batch.length > 0) underway.push(share)
      written.push(...share.batch)
    }
    const storms = written.filter((waiting) => waiting.project_id === 'storm').length
    assert.ok(storms >= 600, `${storms} with ${connections} connections`)
    assert.equal(written.filter((waiting) => waiting.project_id === 'quiet 0').length, 1)
  }
})

test('The last connection is for projects that have no batch under way', () => {
  const queue = openQueue()
  const shares = createShares(queue, 2, limits)
  push(queue, 'locked', 1)
  assert.deepEqual(projectsOf(shares.next(true).batch), ['locked'])
  push(queue, 'locked', 1)
  assert.equal(shares.next(true).batch.length, 0)
  push(queue, 'quiet', 1)
  assert.deepEqual(projectsOf(shares.next(true).batch), ['quiet'])
})

test('A single connection serves the others between two batches of a crowd', () => {
  const queue = openQueue()
  const shares = createShares(queue, 1, limits)
  push(queue, 'storm', 400)
  const crowd = shares.next(true)
  assert.equal(crowd.batch.length, 200)
  push(queue, 'quiet', 1)
  shares.done(crowd)
  const quiet = shares.next(true)
  assert.deepEqual(projectsOf(quiet.batch), ['quiet'])
  shares.done(quiet)
  assert.deepEqual(projectsOf(shares.next(true).batch), ['storm'])
})

test('Two crowds share what one would get', () => {
  const queue = openQueue()
  const shares = createShares(queue, 2, limits)
  push(queue, 'storm', 1_000)
  push(queue, 'tempest', 1_000)
  const { batch } = shares.next(true)
  const of = (project: string) => batch.filter((waiting) => waiting.project_id === project).length
  assert.deepEqual([of('storm'), of('tempest')], [100, 100])
})

test('A lane has room up to its own bound, whatever the queue has left', () => {
  const queue = openQueue()
  push(queue, 'storm', 10)
  assert.equal(queue.isFull('storm', 1, 10), true)
  assert.equal(queue.isFull('storm', 1, 11), false)
  assert.equal(queue.isFull('storm', 1), false)
  assert.equal(queue.isFull('quiet', 1, 10), false)
  push(queue, 'storm', 4_990)
  assert.equal(queue.isFull('storm', 1), true, 'half of the queue')
  assert.equal(queue.isFull('quiet', 1), false)
})

test('Projects contend while two of them were seen lately', () => {
  const contention = createContention(1_000)
  assert.equal(contention.holds(0), false)
  for (let at = 0; at < 5_000; at += 10) contention.seen('storm', at)
  assert.equal(contention.holds(5_000), false, 'one alone does not')
  contention.seen('quiet', 5_000)
  contention.seen('storm', 5_010)
  assert.equal(contention.holds(5_010), true)
  for (let at = 5_020; at < 6_100; at += 10) contention.seen('storm', at)
  assert.equal(contention.holds(5_990), true)
  assert.equal(contention.holds(6_000), false)
})
