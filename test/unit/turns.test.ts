import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../server/errors.ts'
import { createTurns } from '../../server/ingest/turns.ts'

/** Work takes a millisecond of a clock that only work moves. */
function open(contended: boolean, most?: { events: number; bytes: number }) {
  let clock = 0
  const done: string[] = []
  const turns = createTurns({
    contention: { seen: () => {}, holds: () => contended },
    now: () => clock,
    slice: 2,
    ...(most && { most }),
  })
  const work = (name: string) => () => {
    clock += 1
    done.push(name)
    return name
  }
  return { turns, done, run: (project: string, name: string) => turns.run(project, 100, work(name)) }
}

test('With one project alone everything is parsed at once', () => {
  const { run, done } = open(false)
  for (let n = 0; n < 50; n += 1) assert.equal(run('storm', `s${n}`), `s${n}`)
  assert.equal(done.length, 50)
})

test('Among several a turn of the loop is bounded, and what waits is served one of each project in turn', async () => {
  const { run, done } = open(true)
  const storm = Array.from({ length: 8 }, (_, n) => run('storm', `s${n}`))
  const quiet = run('quiet', 'q0')
  assert.deepEqual(done, ['s0', 's1'], 'two milliseconds of it')
  assert.equal(await quiet, 'q0')
  assert.ok(done.indexOf('q0') <= 3, done.join(' '))
  assert.deepEqual(await Promise.all(storm), ['s0', 's1', 's2', 's3', 's4', 's5', 's6', 's7'])
})

test('A line has an end, and what is thrown in it reaches who waits', async () => {
  const { turns, run } = open(true, { events: 3, bytes: 1_000 })
  const storm = Array.from({ length: 5 }, (_, n) => run('storm', `s${n}`))
  assert.equal(turns.isFull('storm'), true)
  assert.equal(turns.isFull('quiet'), false)
  await assert.rejects(
    async () => run('storm', 'one more'),
    (error) => error instanceof AppError && error.code === 'rate_limited',
  )
  const failing = turns.run('quiet', 100, () => {
    throw new AppError('bad_request', 'not JSON')
  })
  await assert.rejects(async () => failing, /not JSON/)
  await Promise.all(storm)
  assert.equal(turns.isFull('storm'), false)
})

test('A line is bounded by bytes, too', async () => {
  const { turns, run } = open(true, { events: 100, bytes: 250 })
  const storm = Array.from({ length: 5 }, (_, n) => run('storm', `s${n}`))
  assert.equal(turns.isFull('storm'), true)
  await Promise.all(storm)
})
