import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Place, Stream, type Tapped } from '../../server/relay/place.ts'
import { createSampler } from '../../server/relay/sampler.ts'

function start() {
  const stream = new Stream('1', createSampler(0))
  const left: Stream[] = []
  const present = { cursor: () => 'now', gapCursor: () => 'before', left: (which: Stream) => void left.push(which) }
  return { stream, enter: () => new Place(stream, present), left: () => left.length }
}

const message = (text: string, shown = true): Tapped => ({ change: null, version: null, text, shown })

test('Sockets with the same filters hold one list of topics, and a topic goes with the last who has it', () => {
  const { stream, enter } = start()
  const places = [enter(), enter(), enter()]
  const [one, two, three] = places.map((place, n) => place.addTopics(n < 2 ? ['p/1', 'all'] : ['p/1', 'errors']))
  assert.equal(one, two)
  assert.notEqual(one, three)
  places[0]!.removeTopics(one!)
  assert.deepEqual(
    ['p/1', 'all', 'errors'].map((topic) => stream.has(topic)),
    [true, true, true],
  )
  places[1]!.removeTopics(two!)
  assert.deepEqual(
    ['p/1', 'all', 'errors'].map((topic) => stream.has(topic)),
    [true, false, true],
  )
  places[2]!.removeTopics(three!)
  assert.deepEqual(
    ['p/1', 'all', 'errors'].map((topic) => stream.has(topic)),
    [false, false, false],
  )
  // Who has none removes none.
  places[2]!.removeTopics([])
  places[2]!.addTopics(['p/1'])
  assert.ok(stream.has('p/1'))
})

test('A tap collects until it is closed, also when its socket has left before, and leaves out what samples do', () => {
  const { stream, enter } = start()
  const [one, two] = [enter(), enter()]
  const [sampled, all] = [one.tap(true), two.tap(false)]
  stream.collect(message('shown'))
  stream.collect(message('left out', false))
  one.leave()
  one.untap(sampled)
  stream.collect(message('later'))
  two.untap(all)
  assert.equal(stream.isTapped, false)
  stream.collect(message('too late'))
  const texts = [sampled, all].map(({ messages }) => messages.map(({ text }) => text))
  assert.deepEqual(texts, [['shown'], ['shown', 'left out', 'later']])
})

test('A tap that would hold more than half a megabyte says so and holds no more', () => {
  const { stream, enter } = start()
  const tap = enter().tap(false)
  for (let n = 0; n < 10; n++) stream.collect(message('é'.repeat(50 * 1024)))
  assert.deepEqual([tap.messages.length, tap.overflow], [5, true])
})

test('The stream of a project ends with its last socket, which may leave twice', () => {
  const { enter, left } = start()
  const [one, two] = [enter(), enter()]
  one.leave()
  one.leave()
  assert.equal(left(), 0)
  two.leave()
  assert.equal(left(), 1)
})

test('The first snapshot says where the count begins, later ones do not set it back', () => {
  const { enter } = start()
  const place = enter()
  place.learn({ unresolved: 5, version: 7 })
  place.learn({ unresolved: 3, version: 6 })
  assert.deepEqual(place.present(), { unresolved: 5, cursor: 'now' })
})
