// The fingerprint that a client sends: its own parts, or its own beside `{{ default }}`, with variables resolved before
// anything is hashed. Variables are those of Sentry; one stands alone in its part.

import type { Exception } from '../exceptions.ts'
import type { Frame } from '../frames.ts'
import type { Message } from '../message.ts'
import { textFrom } from '../values.ts'

const maxParts = 100
const maxLength = 1024

export interface Place {
  main: Exception | undefined
  crash: Frame | null
  message: Message | null
  level: string
  logger: string | null
  transaction: string | null
  /** Looked up only when a fingerprint names one. */
  tag(key: string): string | null
}

/** Where the default grouping stands in a fingerprint. */
export const byDefault = Symbol('{{ default }}')

/** Null where the default decides alone: nothing was sent, or nothing that counts, or the default only. */
export function fingerprintFrom(sent: unknown, place: Place): (string | typeof byDefault)[] | null {
  const parts = textsFrom(sent).map((part) => resolved(part, place))
  return parts.length === 0 || (parts.length === 1 && parts[0] === byDefault) ? null : parts
}

/** "List; elements string/number/bool, others dropped; [] or non-list = none." */
function textsFrom(sent: unknown): string[] {
  if (!Array.isArray(sent)) return []
  return sent
    .slice(0, maxParts)
    .map((part) => textFrom(part, maxLength))
    .filter((part) => part !== null)
}

function resolved(part: string, place: Place): string | typeof byDefault {
  const name = variableName(part)
  if (name === null) return part
  return name === 'default' ? byDefault : (textFrom(variableValue(name, place), maxLength) ?? '')
}

function variableName(part: string): string | null {
  if (!part.startsWith('{{') || !part.endsWith('}}') || part.length < 5) return null
  const name = part.slice(2, -2).trim()
  return name === '' || /[\s{}]/.test(name) ? null : name
}

function variableValue(name: string, { main, crash, message, level, logger, transaction, tag }: Place): string {
  switch (name) {
    case 'transaction':
      return transaction ?? '<no-transaction>'
    case 'message':
      return message?.text ?? main?.value ?? '<no-message>'
    case 'type':
    case 'error.type':
      return main?.type ?? '<no-type>'
    case 'value':
    case 'error.value':
      return main?.value ?? '<no-value>'
    case 'function':
    case 'stack.function':
      return crash?.function ?? '<no-function>'
    case 'path':
    case 'stack.abs_path':
      return crash?.abs_path ?? '<no-abs-path>'
    case 'stack.filename':
      return crash?.filename ?? '<no-filename>'
    case 'module':
    case 'stack.module':
      return crash?.module ?? '<no-module>'
    case 'package':
    case 'stack.package':
      return packageOf(crash) ?? '<no-package>'
    case 'level':
      return level
    case 'logger':
      return logger ?? '<no-logger>'
    default:
      if (!name.startsWith('tags.')) return `<unrecognized-variable-${name}>`
      return tag(name.slice('tags.'.length)) ?? `<no-value-for-tag-${name.slice('tags.'.length)}>`
  }
}

/** Without its directories, which differ from machine to machine. */
function packageOf(crash: Frame | null): string | null {
  const path = textFrom(crash?.raw.package, maxLength)
  return path === null ? null : path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
}
