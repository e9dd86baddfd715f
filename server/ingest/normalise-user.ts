// The user and the request of an event. `{{auto}}` stands for the address of the client and is never stored; an SDK says by
// `sdk.settings.infer_ip` whether the address may be taken when it sends none, and where it does not say, browsers and
// phones may, as they always could.

import { isIP } from 'node:net'
import type { Edit } from './edit.ts'
import { bounded, limits, shortened } from './limits.ts'
import { type JsonObject, objectFrom, scalarText, textFrom } from './values.ts'

const auto = '{{auto}}'
const clientPlatforms = new Set<unknown>(['javascript', 'cocoa', 'objc'])

export function normaliseUser(user: JsonObject, edit: Edit): void {
  for (const key of ['id', 'email', 'username', 'name', 'ip_address']) texts(user, key, edit)
}

/** What an address costs of its object's limit: it may be put there later, and must not push anything out then. */
export function roomOf(holder: JsonObject, key: string): number {
  const value = holder[key]
  return typeof value === 'string' ? Math.min(value.length, 64) + key.length + 4 : 0
}

function texts(user: JsonObject, key: string, edit: Edit): void {
  const value = user[key]
  if (value === undefined || value === null || typeof value === 'string') return
  const read = scalarText(value)
  if (read !== null) edit.set(user, key, read)
  else edit.wrong(user, key, `user.${key}`)
}

export function normaliseAddress(event: JsonObject, client_ip: string | null, edit: Edit): void {
  const user = objectFrom(event.user)
  const env = objectFrom(objectFrom(event.request)?.env)
  const infer = objectFrom(objectFrom(event.sdk)?.settings)?.infer_ip
  const allowed = infer === 'never' ? null : client_ip
  if (env?.REMOTE_ADDR === auto) replace(env, 'REMOTE_ADDR', allowed, edit)
  if (user?.ip_address === auto) replace(user, 'ip_address', allowed, edit)
  if (textFrom(user?.ip_address, 64) !== null) return
  const remote = textFrom(env?.REMOTE_ADDR, 64)
  const known = remote !== null && isIP(remote) !== 0 ? remote : null
  const inferred =
    known ?? (infer === 'auto' || (infer !== 'never' && clientPlatforms.has(event.platform)) ? client_ip : null)
  if (inferred === null) return
  if (user === null) edit.set(event, 'user', { ip_address: inferred })
  else edit.set(user, 'ip_address', inferred)
}

function replace(holder: JsonObject, key: string, value: string | null, edit: Edit): void {
  if (value === null) edit.drop(holder, key)
  else edit.set(holder, key, value)
}

/** Keeps every form that SDKs send: texts, objects, lists of pairs. */
export function normaliseRequest(value: unknown, edit: Edit, name: string): unknown {
  const request = objectFrom(value)
  if (request === null) return undefined
  for (const key of Object.keys(request)) {
    const part = request[key]
    if (part === null) continue
    const path = `${name}.${key}`
    switch (key) {
      case 'url':
      case 'method':
      case 'fragment':
      case 'inferred_content_type':
        line(request, key, path, edit)
        break
      case 'query_string':
      case 'cookies':
      case 'headers':
        if (typeof part === 'string' || typeof part === 'object') fit(request, key, limits.requestPart, path, edit)
        else edit.wrong(request, key, path)
        break
      case 'env':
        if (objectFrom(part) === null) edit.wrong(request, key, path)
        else fit(request, key, limits.requestPart + roomOf(part as JsonObject, 'REMOTE_ADDR'), path, edit)
        break
      default:
        fit(request, key, limits.requestData, path, edit)
    }
  }
  return request
}

function line(request: JsonObject, key: string, path: string, edit: Edit): void {
  const read = scalarText(request[key])
  if (read === null) edit.wrong(request, key, path)
  else {
    if (read.length > limits.requestUrl) edit.note('value_too_long', path)
    edit.set(request, key, shortened(read, limits.requestUrl))
  }
}

function fit(request: JsonObject, key: string, most: number, path: string, edit: Edit): void {
  const { value, cut } = bounded(request[key], most, limits.depth)
  if (!cut) return
  edit.note('value_too_long', path)
  edit.set(request, key, value)
  edit.changed = true
}
