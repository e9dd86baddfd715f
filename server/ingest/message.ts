// The message of an event: the text people read, and the template that groups. "If `formatted` is missing and `params` given:
// template containing % -> printf style; else containing { -> {} / {0} / {name}; else leave. On any failure keep the template."

import { cut, type JsonObject, objectFrom, textFrom } from './values.ts'

const maxLength = 8192

export interface Message {
  text: string
  template: string
}

export function messageFrom(event: JsonObject): Message | null {
  return entryFrom(event.logentry) ?? entryFrom(event['sentry.interfaces.Message']) ?? entryFrom(event.message)
}

function entryFrom(value: unknown): Message | null {
  const entry = objectFrom(value)
  if (entry === null) {
    const text = textFrom(value, maxLength)
    return text === null ? null : { text, template: text }
  }
  const template = textFrom(entry.message, maxLength)
  const text = textFrom(entry.formatted, maxLength) ?? (template === null ? null : formatted(template, entry.params))
  return text === null ? null : { text, template: template ?? text }
}

function formatted(template: string, params: unknown): string {
  if (typeof params !== 'object' || params === null) return template
  const text = template.includes('%')
    ? printf(template, params)
    : template.includes('{')
      ? braces(template, params)
      : null
  return text === null ? template : cut(text, maxLength)
}

function printf(template: string, params: object): string | null {
  let next = 0
  return replaced(template, /%(?:\((\w{1,64})\))?([%sdifr])/g, params, (name, kind) =>
    kind === '%' ? '%' : { key: name ?? String(next++) },
  )
}

function braces(template: string, params: object): string | null {
  let next = 0
  return replaced(template, /\{(\w{0,64})\}/g, params, (name) => ({ key: name || String(next++) }))
}

type Part = string | { key: string }

/** Null when a parameter is missing: half a sentence is worse than its template. */
function replaced(
  template: string,
  pattern: RegExp,
  params: object,
  partOf: (name: string | undefined, kind: string | undefined) => Part,
): string | null {
  let missing = false
  const text = template.replace(pattern, (_all, name: string | undefined, kind: string | number | undefined) => {
    const part = partOf(name, typeof kind === 'string' ? kind : undefined)
    if (typeof part === 'string') return part
    // hasOwn, because the client chooses the name: %(constructor)s must not find one.
    if (!Object.hasOwn(params, part.key)) missing = true
    else return cut(parameterText((params as Record<string, unknown>)[part.key]), 1024)
    return ''
  })
  return missing ? null : text
}

function parameterText(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
}
