// One form for the events of all SDKs, of all years: https://develop.sentry.dev/sdk/data-model/event-payloads/. In place, on
// the scrubbed value, which afterwards is what its type says: names are today's, every known field has its type or is
// absent, texts and lists are bounded. A field of the wrong type costs itself and is noted in `errors`; unknown fields stay
// as they are. What an SDK sends today needs no change at all, and then its own bytes are stored.
//
// Normalising a normalised event changes nothing: events can be read again by a later version.

import { Edit } from './edit.ts'
import { distFrom, environmentFrom, levelFrom, releaseFrom } from './fields.ts'
import { bounded, limits, shortened } from './limits.ts'
import { normaliseException, normaliseStacktrace, normaliseThread } from './normalise-stacks.ts'
import { normaliseTimes } from './normalise-times.ts'
import { normaliseAddress, normaliseRequest, normaliseUser, roomOf } from './normalise-user.ts'
import { cut, eventIdFrom, type JsonObject, objectFrom, scalarText } from './values.ts'

export interface NormaliseContext {
  received_at: number
  sent_at: number | null
  /** Of the client that sent the request; null when unknown or not to be kept. */
  client_ip: string | null
}

export function normalise(event: JsonObject, context: NormaliseContext): Edit {
  const edit = new Edit()
  for (const [name, check] of fields) {
    const value = event[name]
    if (value === undefined || value === null) continue
    const kept = check(value, edit, name)
    if (kept === undefined) {
      edit.wrong(event, name, name)
    } else if (kept !== value) edit.set(event, name, kept)
  }
  normaliseTimes(event, context, edit)
  normaliseAddress(event, context.client_ip, edit)
  if (edit.notes.length > 0) tell(event, edit)
  return edit
}

function tell(event: JsonObject, edit: Edit): void {
  const before = Array.isArray(event.errors) ? event.errors : []
  edit.set(event, 'errors', [...before, ...edit.notes].slice(0, limits.errors))
}

/** The value to keep, the very same where nothing is to be changed; undefined: it cannot be that field. */
type Check = (value: unknown, edit: Edit, name: string) => unknown

const text =
  (most: number): Check =>
  (value, edit, name) => {
    const read = scalarText(value)
    if (read === null) return undefined
    if (read.length <= most) return read
    edit.note('value_too_long', name)
    return cut(read, most)
  }

const validText =
  (read: (value: unknown) => string | null): Check =>
  (value) => {
    if (typeof value === 'string' && value.trim() === '') return value
    const valid = read(value)
    return valid === null ? undefined : typeof value === 'string' ? value : valid
  }

const object: Check = (value) => objectFrom(value) ?? undefined

/** Free data: any object, as large as that. */
const data =
  (most: number, depth: number): Check =>
  (value, edit, name) => {
    if (objectFrom(value) === null) return undefined
    return keptWithin(value, most, depth, edit, name)
  }

function keptWithin(value: unknown, most: number, depth: number, edit: Edit, name: string): unknown {
  const { value: kept, cut: wasCut } = bounded(value, most, depth)
  if (wasCut) {
    edit.note('value_too_long', name)
    edit.changed = true
  }
  return kept
}

/** A list, `{"values": […]}`, or one bare object, of which what is no object and what is too much goes. Newest last. */
const values =
  (most: number, each: (element: JsonObject, edit: Edit, name: string) => void): Check =>
  (value, edit, name) => {
    const holder = objectFrom(value)
    let list: unknown = value
    if (holder !== null) {
      if ('values' in holder) list = holder.values ?? []
      else if (Object.keys(holder).length === 0) return value
      else {
        each(holder, edit, name)
        edit.changed = true
        return { values: [holder] }
      }
    }
    if (!Array.isArray(list)) return undefined
    if (list.length > most) {
      edit.note('too_many_values', name)
      list.splice(0, list.length - most)
      edit.changed = true
    }
    keepObjects(list, edit, name)
    for (const element of list) if (element !== null) each(element as JsonObject, edit, name)
    return value
  }

/** Elements may be null: Sentry allows it. */
function keepObjects(list: unknown[], edit: Edit, name: string): void {
  let kept = 0
  for (const element of list) {
    if (element === null || objectFrom(element) !== null) list[kept++] = element
    else edit.note('invalid_data', name)
  }
  if (kept === list.length) return
  list.length = kept
  edit.changed = true
}

const logentry: Check = (value, edit, name) => {
  if (typeof value === 'string') return longText(value, limits.message, edit, name)
  const entry = objectFrom(value)
  if (entry === null) return scalarText(value) ?? undefined
  for (const key of ['message', 'formatted'] as const) {
    const part = entry[key]
    if (part === undefined || part === null) continue
    const read = scalarText(part)
    if (read === null) {
      edit.wrong(entry, key, `${name}.${key}`)
    } else edit.set(entry, key, longText(read, limits.message, edit, `${name}.${key}`))
  }
  const params = entry.params
  if (params !== undefined && params !== null) {
    if (typeof params !== 'object') {
      edit.wrong(entry, 'params', `${name}.params`)
    } else keptWithin(params, limits.message, limits.depth, edit, `${name}.params`)
  }
  return value
}

function longText(value: string, most: number, edit: Edit, name: string): string {
  if (value.length > most) edit.note('value_too_long', name)
  return shortened(value, most)
}

function breadcrumb(crumb: JsonObject, edit: Edit): void {
  for (const key of ['type', 'category', 'level', 'message', 'event_id'] as const) {
    const value = crumb[key]
    if (value === undefined || value === null) continue
    const read = key === 'message' && typeof value === 'object' ? JSON.stringify(value) : scalarText(value)
    if (read === null) {
      edit.wrong(crumb, key, `breadcrumbs.${key}`)
    } else
      edit.set(
        crumb,
        key,
        longText(read, key === 'message' ? limits.message : limits.frameText, edit, `breadcrumbs.${key}`),
      )
  }
  if (crumb.data === undefined || crumb.data === null) return
  if (objectFrom(crumb.data) === null) {
    edit.wrong(crumb, 'data', 'breadcrumbs.data')
  } else keptWithin(crumb.data, limits.context, limits.depth, edit, 'breadcrumbs.data')
}

const crumbs = values(limits.breadcrumbs, breadcrumb)

/** The newest, as many as there is room for. */
const breadcrumbs: Check = (value, edit, name) => {
  const kept = crumbs(value, edit, name)
  const list = Array.isArray(kept) ? kept : objectFrom(kept)?.values
  if (!Array.isArray(list)) return kept
  let left: number = limits.breadcrumbsTotal
  for (let i = list.length - 1; i >= 0; i--) {
    left -= sizeOf({ ...list[i], timestamp: null })
    if (left > 0) continue
    list.splice(0, i + 1)
    edit.note('too_many_values', name)
    edit.changed = true
    break
  }
  return kept
}

function sizeOf(value: unknown): number {
  if (typeof value === 'string') return value.length + 2
  if (typeof value !== 'object' || value === null) return 8
  let size = 2
  for (const key of Object.keys(value)) size += key.length + 4 + sizeOf((value as JsonObject)[key])
  return size
}

/** Tags: an object or a list of pairs; values are texts, numbers or booleans. */
const tags: Check = (value, edit, name) => {
  if (Array.isArray(value)) {
    let kept = 0
    for (const pair of value) {
      if (Array.isArray(pair) && pair.length === 2 && scalarText(pair[0]) !== null && isTagValue(pair[1])) {
        tagPair(pair, edit)
        if (kept < limits.tags) value[kept++] = pair
        else edit.note('too_many_values', name)
      } else if (pair !== null) edit.note('invalid_data', name, Array.isArray(pair) ? pair[0] : pair)
    }
    if (kept < value.length) {
      value.length = kept
      edit.changed = true
    }
    return value
  }
  const map = objectFrom(value)
  if (map === null) return undefined
  let kept = 0
  for (const key of Object.keys(map)) {
    const tag = map[key]
    if (!isTagValue(tag)) edit.note('invalid_data', `tags.${cut(key, limits.tagKey)}`)
    else if (key.length <= limits.tagKey && kept < limits.tags) {
      kept++
      if (typeof tag === 'string' && tag.length > limits.tagValue) {
        edit.note('value_too_long', `tags.${key}`)
        edit.set(map, key, cut(tag, limits.tagValue))
      }
      continue
    } else edit.note(kept < limits.tags ? 'value_too_long' : 'too_many_values', name)
    edit.drop(map, key)
  }
  return map
}

function isTagValue(value: unknown): boolean {
  return value === null || typeof value !== 'object'
}

function tagPair(pair: unknown[], edit: Edit): void {
  for (const [index, most] of [limits.tagKey, limits.tagValue].entries()) {
    const part = pair[index]
    if (typeof part !== 'string' || part.length <= most) continue
    edit.note('value_too_long', 'tags')
    pair[index] = cut(part, most)
    edit.changed = true
  }
}

/** Each value by itself, so that one that is too large spoils no other. */
const entries =
  (each: number, total: number, most: number, mustBeObjects: boolean): Check =>
  (value, edit, name) => {
    const map = objectFrom(value)
    if (map === null) return undefined
    let left = total
    let kept = 0
    for (const key of Object.keys(map)) {
      const entry = map[key]
      const path = `${name}.${cut(key, 100)}`
      if (mustBeObjects && entry !== null && typeof entry !== 'string' && objectFrom(entry) === null) {
        edit.wrong(map, key, path)
        continue
      }
      left -= key.length
      if (left <= 0 || kept >= most) {
        edit.note('too_many_values', name)
        edit.drop(map, key)
        continue
      }
      kept++
      const { value: bound, cut: wasCut } = bounded(entry, Math.min(each, left), limits.depth)
      if (wasCut) {
        edit.note('value_too_long', path)
        edit.set(map, key, bound)
        edit.changed = true
      }
      left -= Math.min(left, sizeOf(bound))
    }
    return map
  }

const user: Check = (value, edit, name) => {
  const object = objectFrom(value)
  if (object === null) return undefined
  normaliseUser(object, edit)
  return keptWithin(object, limits.user + roomOf(object, 'ip_address'), limits.depth, edit, name)
}

const fingerprint: Check = (value, edit, name) => {
  if (!Array.isArray(value)) return undefined
  let kept = 0
  for (const part of value) {
    const read = scalarText(part)
    if (read === null) edit.note('invalid_data', name, part)
    else if (kept === limits.fingerprint) edit.note('too_many_values', name)
    else {
      const short = cut(read, limits.fingerprintPart)
      if (short !== part) edit.changed = true
      value[kept++] = short
    }
  }
  if (kept < value.length) {
    value.length = kept
    edit.changed = true
  }
  return value
}

const debugMeta: Check = (value, edit, name) => {
  const meta = objectFrom(value)
  if (meta === null) return undefined
  const images = meta.images
  if (images === undefined || images === null) return meta
  if (!Array.isArray(images)) {
    edit.note('invalid_data', `${name}.images`)
    edit.drop(meta, 'images')
    return meta
  }
  keepObjects(images, edit, `${name}.images`)
  if (images.length > limits.images) {
    edit.note('too_many_values', `${name}.images`)
    images.length = limits.images
    edit.changed = true
  }
  return meta
}

const errors: Check = (value, edit, name) => {
  if (!Array.isArray(value)) return undefined
  keepObjects(value, edit, name)
  if (value.length > limits.errors) {
    value.length = limits.errors
    edit.changed = true
  }
  return value
}

const eventId: Check = (value) => (eventIdFrom(value) === null ? undefined : value)

const level: Check = (value) => (levelFrom(value) === null ? undefined : value)

const stacktrace: Check = (value, edit, name) => {
  const stack = objectFrom(value)
  if (stack === null) return undefined
  normaliseStacktrace(stack, edit, name)
  return stack
}

const fields: [name: string, check: Check][] = [
  ['event_id', eventId],
  ['level', level],
  ['platform', text(64)],
  ['logger', text(64)],
  ['logentry', logentry],
  ['message', logentry],
  ['exception', values(limits.exceptions, normaliseException)],
  ['threads', values(limits.threads, normaliseThread)],
  ['stacktrace', stacktrace],
  ['transaction', text(200)],
  ['culprit', text(200)],
  ['server_name', text(256)],
  ['release', validText(releaseFrom)],
  ['dist', validText(distFrom)],
  ['environment', validText(environmentFrom)],
  ['tags', tags],
  ['extra', entries(limits.extraValue, limits.extraTotal, 1000, false)],
  ['contexts', entries(limits.context, 1024 * 1024, limits.contexts, true)],
  ['user', user],
  ['request', normaliseRequest],
  ['breadcrumbs', breadcrumbs],
  ['sdk', data(32_768, limits.depth)],
  ['modules', data(limits.modules, 1)],
  ['fingerprint', fingerprint],
  ['debug_meta', debugMeta],
  ['csp', data(limits.context * 2, limits.depth)],
  ['template', data(limits.context, limits.depth)],
  ['_meta', object],
  ['type', text(64)],
  ['errors', errors],
]
