// What people see of an event in a list: its title and its culprit (where it happened).

import type { CspReport } from './csp.ts'
import type { Exception } from './exceptions.ts'
import { crashFrame, type Frame } from './frames.ts'
import type { Message } from './message.ts'
import { cut, firstLine } from './values.ts'

export const maxTitle = 512
export const unlabeled = '<unlabeled event>'

/** Of a value or a message, whose first line may be a whole document. */
const maxLine = 256

export function titleFrom(
  exception: Exception | undefined,
  csp: CspReport | null,
  message: Message | null,
  stack: Frame[],
): string {
  return cut(titleOf(exception, csp, message, stack), maxTitle) || unlabeled
}

function titleOf(
  exception: Exception | undefined,
  csp: CspReport | null,
  message: Message | null,
  stack: Frame[],
): string {
  if (exception !== undefined) return exceptionTitle(exception)
  if (csp !== null) return cspTitle(csp)
  return message === null ? (crashFrame(stack)?.function ?? '') : lineOf(message.text)
}

function exceptionTitle(exception: Exception): string {
  const value = lineOf(exception.value)
  // A synthetic exception's type is the SDK's invention ("Error" for a thrown string), so what was thrown comes first.
  if (exception.synthetic) return value || (crashFrame(exception.frames)?.function ?? exception.type ?? '')
  const type = exception.type ?? 'Error'
  return value === '' ? type : `${type}: ${value}`
}

function cspTitle({ directive, blocked }: CspReport): string {
  return `Blocked '${directive}' from '${blocked}'`
}

function lineOf(text: string | null): string {
  return cut(firstLine(text ?? ''), maxLine)
}

export function culpritFrom(
  place: { transaction: string | null; url: string | null },
  exception: Exception | undefined,
  stack: Frame[],
): string | null {
  const frame = exception?.synthetic ? null : crashFrame(exception?.frames ?? stack)
  const culprit = place.transaction ?? (frame === null ? null : frameText(frame)) ?? place.url
  return culprit === null ? null : cut(culprit, 200)
}

function frameText(frame: Frame): string | null {
  const where = frame.module ?? frame.filename
  if (frame.family === 'javascript') return where === null ? frame.function : `${frame.function ?? '?'}(${where})`
  if (frame.family === 'native') return frame.function
  if (where === null) return frame.function
  return frame.function === null ? where : `${where} in ${frame.function}`
}
