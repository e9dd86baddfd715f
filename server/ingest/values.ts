// Lenient readers of what SDKs send. A field of the wrong type reads as absent: it costs that field, never the event.
// https://develop.sentry.dev/sdk/data-model/event-payloads/

export type JsonObject = Record<string, unknown>

export function objectFrom(value: unknown): JsonObject | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : null
}

/** Texts as they are, numbers and booleans as text; null for everything else. */
export function scalarText(value: unknown): string | null {
  if (typeof value === 'string') return value
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : null
}

/** Numbers and booleans are read as text; blank is absent; longer text is cut. */
export function textFrom(value: unknown, most: number): string | null {
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (typeof value !== 'string') return null
  const text = cut(value, most).trim()
  return text === '' ? null : text
}

/** Sentry's "values": a list, `{"values": [...]}`, or one bare object. At most the last `most` elements that are objects. */
export function valuesFrom(value: unknown, most: number): JsonObject[] {
  const inner = objectFrom(value)
  const list = inner === null ? value : 'values' in inner ? inner.values : Object.keys(inner).length > 0 ? [inner] : []
  if (!Array.isArray(list)) return []
  const objects: JsonObject[] = []
  for (let i = list.length - 1; i >= 0 && objects.length < most; i--) {
    const element = objectFrom(list[i])
    if (element !== null) objects.push(element)
  }
  return objects.reverse()
}

/** Sentry's "pairs": an object, or a list of `[key, value]`. */
export function pairsFrom(value: unknown): [unknown, unknown][] {
  if (Array.isArray(value)) return value.filter((pair) => Array.isArray(pair) && pair.length === 2)
  const object = objectFrom(value)
  return object === null ? [] : Object.entries(object)
}

/** At most `most` UTF-16 units, and never half a surrogate pair: PostgreSQL refuses those. */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text
  const last = text.charCodeAt(most - 1)
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? most - 1 : most)
}

export function firstLine(text: string): string {
  const start = text.trimStart()
  const end = start.search(/[\r\n]/)
  return (end === -1 ? start : start.slice(0, end)).trimEnd()
}

/** The one form in which ids are stored and answered: 32 lower-case hex. SDKs also send dashes and upper case. */
export function eventIdFrom(value: unknown): string | null {
  if (typeof value !== 'string' || value.length > 40) return null
  if (/^[0-9a-f]{32}$/.test(value)) return value
  const plain = value.trim().replaceAll('-', '').toLowerCase()
  return /^[0-9a-f]{32}$/.test(plain) ? plain : null
}
