// Channel `mesher` as anybody hears it who types `listen mesher`.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { type Notification, parseNotification } from '../../server/notify/channels.ts'
import type { TestDatabase } from './database.ts'

type OfAction<A extends Notification['action']> = Extract<Notification, { action: A }>
export type ToldIssue = OfAction<'issues'>['issues'][number]
export type ToldEvent = OfAction<'events'>['events'][number]

export interface Heard {
  /** As they came. */
  payloads: string[]
  of<A extends Notification['action']>(action: A): OfAction<A>[]
  issues: ToldIssue[]
  events: ToldEvent[]
}

export interface Ear {
  /** Everything that was committed before this call and since the last one. Each payload was checked. */
  hear(): Promise<Heard>
}

/** PostgreSQL's limit; passing it aborts the statement. */
const limit = 8_000

export async function listen(database: TestDatabase): Promise<Ear> {
  const client = await database.connect('test ear')
  let payloads: string[] = []
  let wake = () => {}
  client.on('notification', (message) => {
    payloads.push(message.payload ?? '')
    wake()
  })
  await client.query('listen mesher')

  return {
    async hear() {
      const marker = randomUUID()
      // Commit order is notification order: what was committed before comes before.
      await database.sql("select pg_notify('mesher', $1)", [marker])
      while (payloads.at(-1) !== marker) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      const heard = payloads.slice(0, -1)
      payloads = []
      return parsed(heard)
    },
  }
}

function parsed(payloads: string[]): Heard {
  const notifications = payloads.map((payload) => {
    assert.ok(Buffer.byteLength(payload) < limit, `a payload of ${Buffer.byteLength(payload)} bytes`)
    const notification = parseNotification(payload)
    assert.ok(notification, `not a payload of ours: ${payload.slice(0, 500)}`)
    return notification
  })
  const of = <A extends Notification['action']>(action: A) =>
    notifications.filter((one): one is OfAction<A> => one.action === action)
  return {
    payloads,
    of,
    issues: of('issues').flatMap((one) => one.issues),
    events: of('events').flatMap((one) => one.events),
  }
}
