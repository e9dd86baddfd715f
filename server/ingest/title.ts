// What people see of an event in a list: its title and its culprit (where it happened).

import { crashFrame, type Exception, type Frame } from './exceptions.ts'
import type { Message } from './message.ts'
import { cut, firstLine } from './values.ts'

export const maxTitle = 512
export const unlabeled = '<unlabeled event>'

export function titleFrom(exception: Exception | undefined, message: Message | null): string {
  const title = exception === undefined ? firstLine(message?.text ?? '') : exceptionTitle(exception)
  return cut(title, maxTitle) || unlabeled
}

function exceptionTitle(exception: Exception): string {
  const value = firstLine(exception.value ?? '')
  // A synthetic exception's type is the SDK's invention ("Error" for a thrown string), so what was thrown comes first.
  if (exception.synthetic) return value || (crashFrame(exception.frames)?.function ?? exception.type ?? '')
  const type = exception.type ?? 'Error'
  return value === '' ? type : `${type}: ${value}`
}

export function culpritFrom(
  place: { transaction: string | null; platform: string; url: string | null },
  exception: Exception | undefined,
  stack: Frame[],
): string | null {
  const frame = exception?.synthetic ? null : crashFrame(exception?.frames ?? stack)
  const culprit = place.transaction ?? (frame === null ? null : frameText(frame, place.platform)) ?? place.url
  return culprit === null ? null : cut(culprit, 200)
}

function frameText(frame: Frame, platform: string): string | null {
  const where = frame.module ?? frame.filename
  if (platform === 'javascript' || platform === 'node') {
    return where === null ? frame.function : `${frame.function ?? '?'}(${where})`
  }
  if (platform === 'native' || platform === 'cocoa' || platform === 'objc' || platform === 'c') return frame.function
  if (where === null) return frame.function
  return frame.function === null ? where : `${where} in ${frame.function}`
}
