// Times as SDKs write them -> milliseconds with their microseconds as a fraction.

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

/** RFC 3339 in UTC, to the microsecond. */
export function timeText(milliseconds: number): string {
  const micros = Math.round(milliseconds * 1e3)
  const whole = Math.floor(micros / 1e6)
  return `${new Date(whole * 1e3).toISOString().slice(0, 19)}.${String(micros - whole * 1e6).padStart(6, '0')}Z`
}

function fromSeconds(seconds: number): number | null {
  return Number.isFinite(seconds) && seconds >= 0 && seconds < 1e11 ? Math.round(seconds * 1e6) / 1e3 : null
}
