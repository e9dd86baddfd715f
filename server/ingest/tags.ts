// Tags by which events are counted and searched: the derived ones first, then the client's own, each key once.

import { browserFrom } from './user-agent.ts'
import { type JsonObject, objectFrom, pairsFrom, textFrom } from './values.ts'

export const maxTags = 50
const maxLength = 200

/** Fields of their own: a tag of that name would contradict them. */
const reserved = new Set(['release', 'dist', 'user', 'filename', 'function', 'environment'])

export type Tag = [key: string, value: string]

/** `userAgent`: of who sent the request, for events of browsers that do not say what they run in. */
export function tagsFrom(event: JsonObject, userAgent: string, derived: [key: string, value: string | null][]): Tag[] {
  const tags = new Map<string, string>()
  for (const [key, value] of derived) if (value !== null) tags.set(key, textFrom(value, maxLength) ?? value)
  for (const [key, value] of contextTags(event, userAgent)) tags.set(key, value)
  for (const [rawKey, rawValue] of pairsFrom(event.tags)) {
    if (tags.size >= maxTags) break
    const key = textFrom(rawKey, maxLength)
    const value = textFrom(rawValue, maxLength)
    if (key !== null && value !== null && !reserved.has(key) && !tags.has(key)) tags.set(key, value)
  }
  return [...tags]
}

export function tagFrom(event: JsonObject, wanted: string): unknown {
  return pairsFrom(event.tags).find(([key]) => key === wanted)?.[1]
}

function contextTags(event: JsonObject, userAgent: string): Tag[] {
  const contexts = objectFrom(event.contexts)
  const agent = browserFrom(agentOf(event, userAgent))
  const tags: Tag[] = []
  for (const name of ['runtime', 'os', 'browser'] as const) {
    const context = objectFrom(contexts?.[name])
    const told = textFrom(context?.name, 100)
    const guessed = told === null && name !== 'runtime' ? agent[name] : null
    const title = told ?? guessed?.name ?? null
    if (title === null) continue
    const version = told === null ? (guessed?.version ?? null) : textFrom(context?.version, 90)
    tags.push([name, version === null ? title : `${title} ${version}`], [`${name}.name`, title])
  }
  const device = objectFrom(contexts?.device)
  const model = textFrom(device?.model, maxLength)
  const family = textFrom(device?.family, maxLength)
  if (model !== null) tags.push(['device', model])
  if (family !== null) tags.push(['device.family', family])
  return tags
}

/** The User-Agent of the request in which the error happened; of the one that brought it where that is the same browser. */
function agentOf(event: JsonObject, userAgent: string): string {
  for (const [name, value] of pairsFrom(objectFrom(event.request)?.headers)) {
    if (typeof name !== 'string' || name.length !== 10 || name.toLowerCase() !== 'user-agent') continue
    const agent = textFrom(Array.isArray(value) ? value[0] : value, 1024)
    if (agent !== null) return agent
  }
  return event.platform === 'javascript' ? userAgent : ''
}

/** "First non-empty of id, username, email, ip_address", written with its kind. `{{auto}}` asks for the client's address. */
export function userFrom(event: JsonObject): string | null {
  const user = objectFrom(event.user)
  if (user === null) return null
  for (const kind of ['id', 'username', 'email'] as const) {
    const value = textFrom(user[kind], 250)
    if (value !== null) return `${kind}:${value}`
  }
  const ip = textFrom(user.ip_address, 64)
  return ip === null || ip === '{{auto}}' ? null : `ip:${ip}`
}
