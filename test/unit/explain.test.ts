import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseEvent } from '../../server/ingest/event.ts'
import { explained } from '../../server/ingest/grouping/explain.ts'

const frames = [
  { module: 'shop.views', function: 'checkout' },
  { module: 'shop.pay', function: 'charge', context_line: 'raise PaymentError(code)' },
]
const error = (more: object = {}) => ({ type: 'PaymentError', value: 'order 7', stacktrace: { frames }, ...more })

function explainedEvent(event: object): string {
  const bytes = Buffer.from(JSON.stringify({ platform: 'python', ...event }))
  return explained(JSON.parse(parseEvent(bytes, { received_at: 0 }).components[0]!))
}

test('Why an event belongs to its issue is said in a sentence', () => {
  const stack = 'of 2 frames, from checkout in shop.views to charge in shop.pay, at the line "raise PaymentError(code)"'
  const sentences: [event: object, reason: string][] = [
    [{ exception: [error()] }, `the type PaymentError and the stack ${stack}`],
    [{ exception: [error({ mechanism: { synthetic: true } })] }, `the stack ${stack}`],
    [
      { exception: [{ type: 'KeyError' }, error()] },
      `the type PaymentError and the stack ${stack}; and by what it came with: KeyError`,
    ],
    [
      { exception: [{ type: 'E', stacktrace: { frames: [{ filename: 'a.py' }] } }] },
      'the type E and the stack of one frame, a.py',
    ],
    [
      { exception: [{ type: 'E', value: 'user 42' }] },
      'the type E and the value "user <num>", because no frame of a stack counts',
    ],
    [{ exception: [{ type: 'E' }] }, 'the type E, because no frame of a stack counts'],
    [{ exception: [{ value: 'x' }] }, 'the value "x", because no frame of a stack counts'],
    [{ stacktrace: { frames } }, `the stack ${stack}`],
    [{ message: 'user 42' }, 'the message "user <num>"'],
    [{ message: 'x'.repeat(500) }, `the message "${'x'.repeat(200)}…"`],
    [{ message: 'm', fingerprint: ['a', 'b'] }, 'the fingerprint that was sent: "a", "b"'],
    [
      { message: 'm', fingerprint: ['{{ default }}', 'eu'] },
      '"eu" of the fingerprint that was sent, and by the message "m"',
    ],
    [{ message: 'm', fingerprint: ['{{ default }}', '{{ default }}'] }, 'the message "m"'],
    [
      { csp: { effective_directive: 'img-src', blocked_uri: 'https://a.b/x' } },
      'the policy directive img-src and what it blocked, a.b',
    ],
    [{ logger: 'shop' }, 'logger "shop" and transaction "", because it says nothing else'],
  ]
  for (const [event, reason] of sentences) assert.equal(explainedEvent(event), `Grouped by ${reason}.`)
})

test('Components that no rule makes are said not to be known', () => {
  for (const other of [
    null,
    undefined,
    5,
    'msg',
    {},
    [],
    ['msg'],
    ['mix', 'a'],
    ['stack', []],
    [['exc', 'E', []]],
    [[]],
    ['x', 'y'],
  ])
    assert.equal(explained(other), 'What this hash is of was not kept.', JSON.stringify(other))
})
