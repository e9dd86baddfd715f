import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseEvent } from '../../server/ingest/event.ts'

const frames = [
  { module: 'shop', function: 'main', in_app: true },
  { module: 'shop.pay', filename: 'shop/pay.x', function: 'charge', in_app: true },
  { module: 'lib', function: 'throw', in_app: false },
]
const parsed = (event: object) => parseEvent(Buffer.from(JSON.stringify(event)), { received_at: 0 })
const thrown = (exception: object, more: object = {}) => ({ exception: [exception], ...more })

test('An issue is named by what was thrown, or by what was said', () => {
  const synthetic = { mechanism: { synthetic: true } }
  const titles: [event: object, title: string][] = [
    [thrown({ type: 'PaymentError', value: ' declined\nfor 7' }), 'PaymentError: declined'],
    [thrown({ type: 'PaymentError' }), 'PaymentError'],
    [thrown({ value: 'declined' }), 'Error: declined'],
    [thrown({ type: 'E', value: 'x'.repeat(1000) }), `E: ${'x'.repeat(256)}`],
    [thrown({ type: 'E', value: { code: 5 } }), 'E: {"code":5}'],
    [
      {
        exception: [
          { type: 'Cause', value: 'a' },
          { type: 'Thrown', value: 'b' },
        ],
      },
      'Thrown: b',
    ],
    [thrown({ type: 'Error', value: 'a string', stacktrace: { frames }, ...synthetic }), 'a string'],
    [thrown({ type: 'SIGSEGV', stacktrace: { frames }, ...synthetic }), 'charge'],
    [thrown({ type: 'SIGSEGV', ...synthetic }), 'SIGSEGV'],
    [thrown({ value: 'said', ...synthetic }, { message: 'said it' }), 'said it'],
    [{ message: '\n first\r\nsecond' }, 'first'],
    [{ message: 'x'.repeat(1000) }, 'x'.repeat(256)],
    [{ logentry: { message: 'user %s', params: ['alice'] } }, 'user alice'],
    [
      { csp: { effective_directive: 'img-src', blocked_uri: 'https://a.example.com/x' } },
      "Blocked 'img-src' from 'a.example.com'",
    ],
    [{ threads: [{ stacktrace: { frames } }] }, 'charge'],
    [{}, '<unlabeled event>'],
  ]
  for (const [event, title] of titles) assert.equal(parsed(event).title, title)
})

test('The culprit is the transaction, else where it crashed in the app, else the page', () => {
  const crash = thrown({ type: 'E', stacktrace: { frames } })
  const request = { request: { url: 'https://shop.example.com/cart?id=7' } }
  const culprits: [event: object, culprit: string | null][] = [
    [{ ...crash, ...request, transaction: 'GET /cart' }, 'GET /cart'],
    [{ ...crash, ...request, platform: 'node' }, 'charge(shop.pay)'],
    [{ ...crash, platform: 'python' }, 'shop.pay in charge'],
    [{ ...crash, platform: 'native' }, 'charge'],
    [thrown({ type: 'E', stacktrace: { frames: frames.slice(2) } }, { platform: 'java' }), 'lib in throw'],
    [thrown({ type: 'E', stacktrace: { frames: [{ filename: 'a.py' }] } }, { platform: 'python' }), 'a.py'],
    [thrown({ type: 'E', stacktrace: { frames: [{ filename: 'a.js' }] } }, { platform: 'node' }), '?(a.js)'],
    [
      thrown({ type: 'E', stacktrace: { frames }, mechanism: { synthetic: true } }, request),
      'https://shop.example.com/cart',
    ],
    [{ threads: [{ stacktrace: { frames } }], platform: 'python' }, 'shop.pay in charge'],
    [{ message: 'x', transaction: 'x'.repeat(500) }, 'x'.repeat(200)],
    [{ message: 'x' }, null],
  ]
  for (const [event, culprit] of culprits) assert.equal(parsed(event).culprit, culprit)
})
