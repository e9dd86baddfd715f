// Times of an event by the server's clock. A client whose clock is 55 minutes or more away (told by the envelope's `sent_at`)
// has all its times moved by that; an event that then comes from the future, or is older than 30 days, happened when it
// was received. Breadcrumbs move with their event, so that what lies between them stays.

import type { Edit } from './edit.ts'
import { timeFrom, timeText } from './time.ts'
import { type JsonObject, objectFrom } from './values.ts'

const minute = 60_000
const day = 24 * 60 * minute
export const leastDrift = 55 * minute
export const mostAhead = minute
export const mostBehind = 30 * day

export interface Clock {
  received_at: number
  sent_at: number | null
}

export function normaliseTimes(event: JsonObject, { received_at, sent_at }: Clock, edit: Edit): void {
  readable(event, 'timestamp', 'timestamp', edit)
  const crumbs = objectsIn(event.breadcrumbs)
  for (const crumb of crumbs) readable(crumb, 'timestamp', 'breadcrumbs.timestamp', edit)

  const drift = sent_at === null ? 0 : received_at - sent_at
  const isWrong = Math.abs(drift) >= leastDrift
  const sent = timeFrom(event.timestamp)
  if (isWrong && sent !== null) edit.note('clock_drift', 'timestamp', event.timestamp)
  let shift = isWrong ? drift : 0
  if (sent !== null) {
    const time = sent + shift
    if (time > received_at + mostAhead) edit.note('future_timestamp', 'timestamp', event.timestamp)
    else if (time < received_at - mostBehind) edit.note('past_timestamp', 'timestamp', event.timestamp)
    if (time > received_at + mostAhead || time < received_at - mostBehind) shift = received_at - sent
  }
  if (shift === 0) return
  for (const holder of [event, ...crumbs]) move(holder, shift, edit)
}

function readable(holder: JsonObject, key: string, name: string, edit: Edit): void {
  const value = holder[key]
  if (value === undefined || value === null || timeFrom(value) !== null) return
  edit.wrong(holder, key, name)
}

/** In the form in which it was sent. */
function move(holder: JsonObject, shift: number, edit: Edit): void {
  const time = timeFrom(holder.timestamp)
  if (time === null) return
  const moved = Math.max(0, time + shift)
  edit.set(holder, 'timestamp', typeof holder.timestamp === 'number' ? Math.round(moved * 1e3) / 1e6 : timeText(moved))
}

function objectsIn(value: unknown): JsonObject[] {
  const list = Array.isArray(value) ? value : objectFrom(value)?.values
  return Array.isArray(list) ? list.filter((element): element is JsonObject => objectFrom(element) !== null) : []
}
