// Who shares a replay with whom. The rule: nobody is given a snapshot that was taken before he asked for it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLimit } from '../../server/limit.ts'
import { parseCursor } from '../../server/relay/cursor.ts'
import type { Change } from '../../server/relay/messages.ts'
import { createLine } from '../../server/relay/readings.ts'
import type { Snapshot } from '../../server/relay/replay.ts'

const at = (xid: number) => parseCursor(`7000000000000000000.00000001-${xid}`)
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

interface Asked {
  projectId: string
  answer(pages?: Change[][]): void
  fail(): void
}

/** Reads that are answered when the test says so. */
function createReads(most = 8) {
  const asked: Asked[] = []
  const pagesRead: number[] = []
  const read = (projectId: string) =>
    new Promise<Snapshot>((resolve, reject) => {
      const number = asked.length + 1
      asked.push({
        projectId,
        answer: (pages = []) =>
          resolve({
            position: at(number),
            unresolved: 0,
            version: 0,
            reason: null,
            async page(number) {
              pagesRead.push(number)
              return pages[number] ?? null
            },
          }),
        fail: () => reject(new Error('away')),
      })
    })
  return { asked, pagesRead, line: createLine({ read, limit: createLimit(most) }) }
}

const change = (key: string): Change => ({ key, event: null, text: key })

test('Who asks the same at the same time is read for once, others are not', async () => {
  const { asked, line } = createReads()
  const readings = await Promise.all([line('1', at(5)), line('1', at(5)), line('1', at(6)), line('2', at(5))])
  const snapshots = readings.map((reading) => reading.snapshot())
  await turn()
  assert.deepEqual(
    asked.map(({ projectId }) => projectId),
    ['1', '1', '2'],
  )
  for (const one of asked) one.answer()
  const [first, second, third, fourth] = await Promise.all(snapshots)
  assert.equal(first, second)
  assert.notEqual(first, third)
  assert.notEqual(first, fourth)
})

test('Who asks when the statement is out is given a later snapshot', async () => {
  const { asked, line } = createReads()
  const early = await line('1', null)
  const first = early.snapshot()
  await turn()
  assert.equal(asked.length, 1)
  const late = await line('1', null)
  const second = late.snapshot()
  // The same member again, too: after it failed, say.
  const again = early.snapshot()
  await turn()
  for (const one of asked) one.answer()
  const positions = await Promise.all([first, second, again])
  assert.deepEqual(
    positions.map(({ position }) => position.xid),
    [1n, 2n, 3n],
  )
})

test('A read that fails fails for all who shared it, and each may ask again', async () => {
  const { asked, line } = createReads()
  const [one, two] = await Promise.all([line('1', at(5)), line('1', at(5))])
  const both = [one.snapshot(), two.snapshot()]
  await turn()
  asked[0]!.fail()
  for (const snapshot of both) await assert.rejects(snapshot, /away/)
  const again = [one.snapshot(), two.snapshot()]
  await turn()
  asked[1]!.answer()
  assert.equal(await again[0], await again[1])
})

test('So many replays at once, and a place is free when its last member has left; the present waits for none', async () => {
  const { asked, line } = createReads(1)
  const [one, two] = await Promise.all([line('1', at(5)), line('1', at(5))])
  const order: string[] = []
  const others = [7, 7, 8].map(async (xid) => {
    const reading = await line('1', at(xid))
    order.push(String(xid))
    return reading
  })
  const present = await line('1', null)
  void present.snapshot()
  await turn()
  assert.equal(asked.length, 1)
  one.leave()
  await turn()
  assert.deepEqual(order, [])
  two.leave()
  const [seven, sevenToo] = await Promise.all(others.slice(0, 2))
  assert.deepEqual(order, ['7', '7'])
  seven!.leave()
  sevenToo!.leave()
  await others[2]
  assert.deepEqual(order, ['7', '7', '8'])
})

test('A page is read once for all who are about there, and its keys are known to all', async () => {
  const { asked, pagesRead, line } = createReads()
  const [one, two] = await Promise.all([line('1', at(5)), line('1', at(5))])
  const shared = [one.snapshot(), two.snapshot()]
  await turn()
  asked[0]!.answer([[change('a'), change('b')], [change('c')]])
  const [first, second] = await Promise.all(shared)
  const pages = await Promise.all([first!.page(0), second!.page(0)])
  assert.equal(pages[0], pages[1])
  assert.deepEqual(pagesRead, [0])
  assert.deepEqual([...first!.keys], ['a', 'b'])
  const next = await first!.page(1)
  // The other has not come to it yet; it is still there.
  assert.equal(await second!.page(1), next)
  assert.deepEqual(pagesRead, [0, 1])
  assert.equal(await first!.page(2), null)
  assert.deepEqual([...second!.keys], ['a', 'b', 'c'])
})
