// "Why grouped here?" in a sentence: read off the components of a hash, so that it says what was hashed and nothing else.

import { cut } from '../values.ts'
import type { ExceptionPart } from './components.ts'
import type { Tree } from './grouping.ts'
import type { StackPart } from './stacks.ts'

const notKept = 'What this hash is of was not kept.'

/** Components come from the database: of another shape than grouping makes they are of another version, or made by hand. */
export function explained(components: unknown): string {
  try {
    return `Grouped by ${reason(components as Tree)}.`
  } catch {
    return notKept
  }
}

function reason(tree: Tree): string {
  const [kind, ...rest] = tree
  if (Array.isArray(kind)) return chain(tree as ExceptionPart[])
  switch (kind) {
    case 'fp':
      return `the fingerprint that was sent: ${list(rest as string[])}`
    case 'mix': {
      const own = rest.filter((part) => typeof part === 'string')
      const other = reason(rest.find((part) => typeof part !== 'string') as Tree)
      return own.length === 0 ? other : `${list(own)} of the fingerprint that was sent, and by ${other}`
    }
    case 'stack':
      return `the stack ${stack(rest[0] as StackPart[])}`
    case 'csp':
      return `the policy directive ${rest[0]} and what it blocked, ${rest[1]}`
    case 'msg':
      return `the message ${quoted(rest[0] as string)}`
    case 'none':
      return `logger ${quoted(rest[0] as string)} and transaction ${quoted(rest[1] as string)}, because it says nothing else`
    default:
      throw new Error('not a kind of components')
  }
}

function chain(parts: ExceptionPart[]): string {
  const thrown = exception(parts.at(-1)!)
  const causes = parts.slice(0, -1).map(([, type]) => type || 'an error')
  return causes.length === 0 ? thrown : `${thrown}; and by what it came with: ${causes.join(', ')}`
}

function exception([, type, by]: ExceptionPart): string {
  const what = type === '' ? 'the stack' : `the type ${type} and the stack`
  if (typeof by !== 'string') return `${what} ${stack(by)}`
  const value = by === '' ? 'no value' : `the value ${quoted(by)}`
  const subject = type === '' ? value : by === '' ? `the type ${type}` : `the type ${type} and ${value}`
  return `${subject}, because no frame of a stack counts`
}

function stack(parts: StackPart[]): string {
  const last = parts.at(-1)!
  const line = last[0] === '@' ? `, at the line ${quoted(last[1])}` : ''
  const frames = line === '' ? parts : parts.slice(0, -1)
  const crash = place(frames.at(-1)!)
  if (frames.length === 1) return `of one frame, ${crash}${line}`
  return `of ${frames.length} frames, from ${place(frames[0]!)} to ${crash}${line}`
}

function place([where, name]: StackPart): string {
  if (where === '') return name
  return name === '' ? where : `${name} in ${where}`
}

function list(texts: string[]): string {
  return texts.slice(0, 10).map(quoted).join(', ')
}

function quoted(text: string): string {
  if (typeof text !== 'string') throw new Error('not a text')
  return JSON.stringify(text.length > 200 ? `${cut(text, 200)}…` : text)
}
