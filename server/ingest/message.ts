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

// %s, %d, %(name)s, %1$s, %-5d, %.2f: widths are left out, since nobody lines up words in a title.
const conversions = /%(?:\((\w{1,64})\)|(\d{1,2})\$)?[-+#0]{0,4}\d{0,3}(?:\.(\d{1,2}))?([%sdiufFeEgGrxXojO])/g

function printf(template: string, params: object): string | null {
  let next = 0
  return replaced(template, conversions, params, (_all, name, position, precision, kind) => {
    if (kind === '%') return { text: '%' }
    const key = name ?? (position === undefined ? String(next++) : String(Number(position) - 1))
    return { key, text: (value) => converted(value, kind!, precision) }
  })
}

function converted(value: unknown, kind: string, precision: string | undefined): string {
  if (typeof value !== 'number') return parameterText(value)
  if (kind === 'd' || kind === 'i' || kind === 'u') return String(Math.trunc(value))
  if (kind === 'x' || kind === 'X') return Math.trunc(value).toString(16)
  return (kind === 'f' || kind === 'F') && precision !== undefined ? value.toFixed(Number(precision)) : String(value)
}

// {}, {0}, {name}, and with a conversion or a format, {0!r} and {price:.2f}, which are left out.
const fields = /\{(\w{0,64})(?:[!:,][^{}]{0,64})?\}/g

function braces(template: string, params: object): string | null {
  let next = 0
  return replaced(template, fields, params, (_all, name) => ({ key: name || String(next++), text: parameterText }))
}

type Part = { text: string } | { key: string; text(value: unknown): string }
type PartOf = (all: string, ...groups: (string | undefined)[]) => Part

/** Null when a parameter is missing: half a sentence is worse than its template. */
function replaced(template: string, pattern: RegExp, params: object, partOf: PartOf): string | null {
  let missing = false
  const text = template.replace(pattern, (...match: [string, ...string[]]) => {
    const part = partOf(...match)
    if (!('key' in part)) return part.text
    // hasOwn, because the client chooses the name: %(constructor)s must not find one.
    if (!Object.hasOwn(params, part.key)) missing = true
    else return cut(part.text((params as Record<string, unknown>)[part.key]), 1024)
    return ''
  })
  return missing ? null : text
}

function parameterText(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
}
