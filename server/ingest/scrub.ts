// Secrets are taken out of an event right after it is parsed and before anything else reads it, so that no title, tag, user,
// group, message on the stream or stored payload can hold one. In place, on the parsed value; values are replaced by
// "[Filtered]" and never removed, so that an event is grouped as it was before.
//
// Two rules: a value whose name tells that it is secret is hidden whole (scrub-names.ts), and secrets inside texts are hidden
// where they stand (scrub-text.ts). Where names are the client's data (extra, contexts, tags, variables, requests, …) both
// apply. Where they are the protocol's, as in frames, only the second does. debug_meta is left alone: addresses and build
// ids of programs. Relay hides a text as soon as it mentions a password, and leaves messages of errors as they are; here
// both are read for what looks like a secret, because people need the one and leak through the other.

import { createNames, type Names } from './scrub-names.ts'
import { isCardNumber } from './scrub-numbers.ts'
import { filtered, scrubText, type TextKind, type TextRules } from './scrub-text.ts'
import { type JsonObject, objectFrom } from './values.ts'

export interface ScrubSettings {
  /** False: no secrets are looked for, and sensitive_fields mean nothing. */
  scrub_data: boolean
  /** False: only sensitive_fields. */
  scrub_defaults: boolean
  scrub_ip_addresses: boolean
  sensitive_fields: readonly string[]
  safe_fields: readonly string[]
}

export const standardSettings: ScrubSettings = {
  scrub_data: true,
  scrub_defaults: true,
  scrub_ip_addresses: false,
  sensitive_fields: [],
  safe_fields: [],
}

export interface Scrubber {
  /** Addresses of people are neither kept nor asked for. */
  readonly hidesAddresses: boolean
  /** Changes the event; true when anything was. */
  scrub(event: JsonObject): boolean
  /** One text of a person, such as a comment. */
  text(text: string): string
}

export function createScrubber(settings: ScrubSettings): Scrubber {
  const names = settings.scrub_data ? createNames(settings) : null
  const ips = settings.scrub_ip_addresses
  const rules: TextRules = { names, secrets: names !== null && settings.scrub_defaults, ips }
  if (names === null && !ips) return { hidesAddresses: false, scrub: () => false, text: (text) => text }
  const clean = { text: new Set<string>(), message: new Set<string>(), source: new Set<string>() }
  return {
    hidesAddresses: ips,
    scrub(event) {
      const walk = new Walk(names, rules, clean)
      walk.event(event)
      return walk.changed
    },
    text: (text) => scrubText(text, rules, 'message'),
  }
}

const mostScrubbers = 100

/** One scrubber for all projects with the same settings: each remembers names and lines that it has seen. */
export function createScrubbers(): (settings: ScrubSettings) => Scrubber {
  const scrubbers = new Map<string, Scrubber>()
  const known = new WeakMap<ScrubSettings, Scrubber>()
  return (settings) => {
    const before = known.get(settings)
    if (before !== undefined) return before
    const { scrub_data, scrub_defaults, scrub_ip_addresses, sensitive_fields, safe_fields } = settings
    const text = JSON.stringify([scrub_data, scrub_defaults, scrub_ip_addresses, sensitive_fields, safe_fields])
    const scrubber = scrubbers.get(text) ?? createScrubber(settings)
    if (scrubbers.size >= mostScrubbers) scrubbers.clear()
    scrubbers.set(text, scrubber)
    known.set(settings, scrubber)
    return scrubber
  }
}

/** Names of libraries, and addresses and ids of programs. */
const untouched = new Set(['modules', 'debug_meta', '_meta'])

/** Of a frame: what names code, lines of code, and paths; all else is as anywhere. */
const frameParts = new Map<string, 'code' | TextKind>([
  ...['function', 'raw_function', 'module', 'package', 'platform'].map((name) => [name, 'code'] as const),
  ...['context_line', 'pre_context', 'post_context'].map((name) => [name, 'source'] as const),
  ...['filename', 'abs_path'].map((name) => [name, 'text'] as const),
])

/** Parts of versions look like addresses: 120.0.0.0. */
const versionNames = /version|^(?:build|release|dist)$|^raw_description$|^user-agent$/i

/** Lines and paths of code that were looked at and had nothing to hide. */
const mostClean = 4_000
const longestClean = 200

/** How many tokens a language model took is no token. */
const countNames = /tokens|count|limit/i

class Walk {
  changed = false
  readonly #names: Names | null
  readonly #rules: TextRules
  readonly #withoutIps: TextRules
  readonly #clean: Record<TextKind, Set<string>>

  constructor(names: Names | null, rules: TextRules, clean: Record<TextKind, Set<string>>) {
    this.#names = names
    this.#rules = rules
    this.#clean = clean
    this.#withoutIps = rules.ips ? { ...rules, ips: false } : rules
  }

  event(event: JsonObject): void {
    if (this.#rules.ips) this.#dropAddresses(event)
    for (const key of Object.keys(event)) {
      const value = event[key]
      if (untouched.has(key) && typeof value === 'object') continue
      if (key === 'message' || key === 'logentry') this.#message(event, key, value)
      else if (key === 'exception' || key === 'threads' || key === 'stacktrace') this.#stacks(event, key, value)
      else if (key === 'fingerprint') this.#texts(event, key, value, 'text')
      else if (key === 'request') this.#request(event, value)
      else this.#value(event, key, value)
    }
  }

  #dropAddresses(event: JsonObject): void {
    const places = [
      { of: objectFrom(event.user), name: 'ip_address' },
      { of: objectFrom(objectFrom(event.request)?.env), name: 'REMOTE_ADDR' },
      { of: objectFrom(event.sdk), name: 'client_ip' },
    ]
    for (const { of, name } of places) {
      if (of === null || of[name] === undefined || of[name] === null) continue
      delete of[name]
      this.changed = true
    }
  }

  #message(event: JsonObject, key: string, value: unknown): void {
    const entry = objectFrom(value)
    if (entry === null) {
      this.#texts(event, key, value, 'message')
      return
    }
    for (const name of Object.keys(entry)) {
      if (name !== 'message' && name !== 'formatted') this.#value(entry, name, entry[name])
      // Whoever reads a message reads its parameters in it.
      this.#texts(entry, name, entry[name], 'message')
    }
  }

  /** Texts at any depth, whatever they are called. */
  #texts(container: JsonObject | unknown[], key: string | number, value: unknown, kind: TextKind): void {
    if (typeof value === 'string') this.#put(container, key, value, scrubText(value, this.#rules, kind))
    else if (Array.isArray(value)) for (let i = 0; i < value.length; i++) this.#texts(value, i, value[i], kind)
    else if (typeof value === 'object' && value !== null) {
      for (const name of Object.keys(value)) this.#texts(value as JsonObject, name, (value as JsonObject)[name], kind)
    }
  }

  /** Exceptions, threads and stacks, in any of their shapes: as anything else, but for the code in their frames. */
  #stacks(container: JsonObject | unknown[], key: string | number, value: unknown): void {
    if (Array.isArray(value)) for (let i = 0; i < value.length; i++) this.#stacks(value, i, value[i])
    else if (typeof value === 'object' && value !== null) {
      const object = value as JsonObject
      for (const name in object) {
        const inner = object[name]
        if (name === 'values' || name === 'stacktrace' || name === 'raw_stacktrace') this.#stacks(object, name, inner)
        else if (name === 'frames' && Array.isArray(inner)) this.#frames(inner)
        else this.#value(object, name, inner)
      }
    } else this.#texts(container, key, value, 'text')
  }

  #frames(frames: unknown[]): void {
    for (let i = 0; i < frames.length; i++) {
      const frame = objectFrom(frames[i])
      if (frame === null) this.#stacks(frames, i, frames[i])
      else this.#frame(frame)
    }
  }

  #frame(frame: JsonObject): void {
    for (const key in frame) {
      const part = frameParts.get(key)
      if (part === 'code') continue
      if (part === undefined) this.#value(frame, key, frame[key])
      else this.#code(frame, key, frame[key], part)
    }
  }

  /** Most of an event, and the same in all events of a program: what was clean once is not looked at again. */
  #code(container: JsonObject | unknown[], key: string | number, value: unknown, kind: TextKind): void {
    if (Array.isArray(value)) for (let i = 0; i < value.length; i++) this.#code(value, i, value[i], kind)
    else if (typeof value !== 'string' || value.length > longestClean) this.#texts(container, key, value, kind)
    else if (!this.#clean[kind].has(value)) {
      const after = scrubText(value, this.#rules, kind)
      this.#put(container, key, value, after)
      if (after !== value) return
      if (this.#clean[kind].size >= mostClean) this.#clean[kind].clear()
      this.#clean[kind].add(value)
    }
  }

  #request(event: JsonObject, value: unknown): void {
    const request = objectFrom(value)
    if (request === null) {
      this.#value(event, 'request', value)
      return
    }
    for (const key of Object.keys(request)) {
      const inner = request[key]
      if (key === 'headers' && typeof inner === 'string') this.#put(request, key, inner, this.#headerLines(inner))
      else this.#value(request, key, inner)
    }
  }

  /** `Name: value` by lines, as some servers hand their headers on. */
  #headerLines(text: string): string {
    const names = this.#names
    const lines = text.split('\n').map((line) => {
      const colon = line.indexOf(':')
      if (names === null || colon < 1) return line
      const rule = names.rule(line.slice(0, colon).trim())
      if (rule === 'hidden') return `${line.slice(0, colon)}: ${filtered}`
      return rule === 'cookies' ? line.slice(0, colon + 1) + hideCookies(line.slice(colon + 1), names) : line
    })
    return scrubText(lines.join('\n'), this.#rules, 'text')
  }

  #value(container: JsonObject, key: string, value: unknown): void {
    // Not even asked about: there is nothing to hide.
    if (value === null || value === true || value === false || value === '') return
    const rule = this.#names === null ? 'plain' : this.#names.rule(key)
    if (rule === 'hidden' && !(typeof value === 'number' && countNames.test(key))) {
      this.#put(container, key, value, filtered)
    } else if (rule === 'cookies') this.#cookies(container, key, value)
    else if (typeof value === 'string') {
      if (rule === 'safe') return
      const rules = this.#rules.ips && versionNames.test(key) ? this.#withoutIps : this.#rules
      this.#put(container, key, value, scrubText(value, rules, 'text'))
    } else this.#inner(container, key, value)
  }

  #inner(container: JsonObject | unknown[], key: string | number, value: unknown): void {
    if (typeof value === 'number') {
      if (this.#rules.secrets && isCardNumber(value)) this.#put(container, key, value, filtered)
    } else if (Array.isArray(value)) this.#list(value)
    else if (typeof value === 'object' && value !== null) this.#object(value as JsonObject)
  }

  #object(object: JsonObject): void {
    for (const key in object) this.#value(object, key, object[key])
    // {"name": "Authorization", "value": "…"}
    const name = object.name ?? object.key
    if (typeof name === 'string' && this.#names?.rule(name) === 'hidden' && isHideable(object.value)) {
      this.#put(object, 'value', object.value, filtered)
    }
  }

  #list(list: unknown[]): void {
    for (let i = 0; i < list.length; i++) {
      const value = list[i]
      if (typeof value !== 'string') this.#inner(list, i, value)
      else if (i > 0 && this.#isNamed(list, i)) this.#put(list, i, value, filtered)
      else this.#put(list, i, value, scrubText(value, this.#rules, 'text'))
    }
    if (list.length !== 2 || typeof list[0] !== 'string' || this.#names === null || !/^[^\s=]{1,64}$/.test(list[0]))
      return
    const rule = this.#names.rule(list[0])
    if (rule === 'cookies') this.#cookies(list, 1, list[1])
    else if (rule === 'hidden' && isHideable(list[1])) this.#put(list, 1, list[1], filtered)
  }

  /** `["--password", "…"]`: an option of a command line before it. */
  #isNamed(list: unknown[], at: number): boolean {
    const option = list[at - 1]
    return typeof option === 'string' && /^--?[\w-]{1,64}$/.test(option) && this.#names?.rule(option) === 'hidden'
  }

  #cookies(container: JsonObject | unknown[], key: string | number, value: unknown): void {
    const names = this.#names!
    if (typeof value === 'string') {
      this.#put(container, key, value, scrubText(hideCookies(value, names), this.#rules, 'text'))
    } else if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) {
        const pair = value[i]
        if (Array.isArray(pair) && typeof pair[0] === 'string') {
          if (names.hidesCookie(pair[0]) && isHideable(pair[1])) this.#put(pair, 1, pair[1], filtered)
          else this.#list(pair)
        } else this.#cookies(value, i, pair)
      }
    } else if (typeof value === 'object' && value !== null) {
      const object = value as JsonObject
      for (const name of Object.keys(object)) {
        if (names.hidesCookie(name) && isHideable(object[name])) this.#put(object, name, object[name], filtered)
        else this.#value(object, name, object[name])
      }
    }
  }

  #put(container: JsonObject | unknown[], key: string | number, before: unknown, after: string): void {
    if (before === after) return
    ;(container as JsonObject)[key] = after
    this.changed = true
  }
}

function isHideable(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '' && typeof value !== 'boolean'
}

/** `a=b; session=…` */
function hideCookies(text: string, names: Names): string {
  return text
    .split(';')
    .map((part) => {
      const equals = part.indexOf('=')
      if (equals < 1 || equals === part.length - 1 || !names.hidesCookie(part.slice(0, equals).trim())) return part
      return `${part.slice(0, equals + 1)}${filtered}`
    })
    .join(';')
}
