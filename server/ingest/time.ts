// Times as SDKs write them -> milliseconds with their microseconds as a fraction, corrected by the server's clock.

const minute = 60_000
const day = 24 * 60 * minute

/** RFC 3339 with or without a zone (then UTC), or unix seconds as a number or text. */
export function timeFrom(value: unknown): number | null {
  if (typeof value === 'number') return fromSeconds(value)
  if (typeof value !== 'string' || value.length > 40) return null
  const parts = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)? ?([Zz]|[+-]\d\d:?\d\d)?$/.exec(value)
  if (parts === null) return /^\d{1,12}(\.\d+)?$/.test(value) ? fromSeconds(Number(value)) : null
  const [, date, time, fraction = '', zone = 'Z'] = parts
  const offset = zone.length === 5 ? `${zone.slice(0, 3)}:${zone.slice(3)}` : zone.toUpperCase()
  const whole = Date.parse(`${date}T${time}${offset}`)
  return Number.isNaN(whole) ? null : whole + Math.floor(Number(`0${fraction}`) * 1e6) / 1e3
}

/**
 * Section 4.5 of Relay's rules: a clock that is 55 minutes or more away (by `sent_at`) shifts the event; an event from the
 * future or older than 30 days happened when it was received.
 */
export function correctedTime(sent: number | null, received_at: number, sent_at: number | null): number {
  if (sent === null) return received_at
  const drift = sent_at === null ? 0 : received_at - sent_at
  const time = Math.abs(drift) >= 55 * minute ? sent + drift : sent
  return time > received_at + minute || time < received_at - 30 * day ? received_at : time
}

function fromSeconds(seconds: number): number | null {
  return Number.isFinite(seconds) && seconds >= 0 && seconds < 1e11 ? Math.round(seconds * 1e6) / 1e3 : null
}
