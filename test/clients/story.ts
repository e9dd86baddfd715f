// The story that every client's program tells: an error with its causes, after a breadcrumb, of a user with tags; then a message.

import assert from 'node:assert/strict'
import type { TestApp } from '../support/app.ts'
import type { Recorder, SentEvent } from './recorder.ts'
import { assertStored, valuesOf } from './stored.ts'

export interface Story {
  sdk: RegExp
  platform: string
  /** Types of the exceptions, the first cause first. */
  causes: string[]
  title: string
  culprit: RegExp
  message: string
  user_key: string
  /** The client says nothing of these in this story. */
  without?: ('order' | 'attempt' | 'breadcrumb')[]
  /** Paths that are stored otherwise than sent, on purpose. */
  changed?: string[]
  /** Of the event that is a message. */
  slowCulprit: RegExp | null
}

export async function assertStory(app: TestApp, recorder: Recorder, story: Story): Promise<[SentEvent, SentEvent]> {
  assertAnswered(recorder)
  // Clients that send both at once send them in either order.
  const events = recorder.events()
  const failed = events.find((event) => JSON.stringify(event.exception ?? '').includes('checkout failed'))
  const slow = events.find((event) => event.level === 'warning')
  assert.ok(failed && slow, `${events.length} events were sent`)

  for (const event of [failed, slow]) {
    const sdk = event.sdk as { name: string; version: string } | undefined
    if (sdk) assert.match(`${sdk.name} ${sdk.version}`, story.sdk)
    assert.equal(event.environment, 'staging')
    assert.match(String(event.release), /^shop-\w+@1\.4\.2$/)
    const user = event.user as Record<string, unknown>
    assert.deepEqual([user.email, user.username], ['alice@example.com', 'alice'])
    assert.equal(event.platform, story.platform)
  }
  const has = (name: 'order' | 'attempt' | 'breadcrumb') => !story.without?.includes(name)
  const tags = failed.tags as Record<string, unknown>
  assert.equal(tags.region ?? 'eu-west-1', 'eu-west-1')
  if (has('attempt')) assert.equal(String(tags.attempt), '3')
  if (has('order')) {
    const { order } = failed.contexts as Record<string, object>
    assert.deepEqual(order, {
      id: 'ord_987',
      amount: 1999,
      currency: 'EUR',
      ...('type' in order! ? { type: order.type } : {}),
    })
  }
  const breadcrumbs = valuesOf(failed.breadcrumbs ?? []) as { message?: string }[]
  if (has('breadcrumb')) assert.ok(breadcrumbs.some(({ message }) => message === 'cart opened'))
  const exceptions = valuesOf(failed.exception as object) as { type: string }[]
  assert.deepEqual(
    exceptions.map(({ type }) => type),
    story.causes,
  )

  await assertStored(app, failed, story)
  await assertStored(app, slow, {
    title: 'Payments are slow',
    message: 'Payments are slow',
    culprit: story.slowCulprit,
    user_key: story.user_key,
    changed: story.changed,
  })
  return [failed, slow]
}

/** Everything that was sent is answered as the protocol says: 200, and the id where there is one. */
export function assertAnswered(recorder: Recorder) {
  for (const { method, path, status, answer } of recorder.exchanges) {
    assert.equal(status, 200, `${method} ${path}: ${answer}`)
    assert.match(answer, /^\{("id":"[0-9a-f]{32}")?\}$/)
  }
}

/** Items that are answered and not kept are counted, each kind as often as it was sent. */
export async function assertCounted(app: TestApp, recorder: Recorder, types: string[]) {
  const text = await (await fetch(`${app.url}/metrics`)).text()
  const lines = [...text.matchAll(/^ingest_items_total\{type="(\w+)"\} (\d+)$/gm)]
  const counted = new Map(lines.map(([, type, n]) => [type!, Number(n)]))
  for (const type of types) {
    const sent = recorder.ofType(type).length
    assert.ok(sent > 0, `no ${type} was sent`)
    assert.equal(counted.get(type), sent, type)
  }
}
