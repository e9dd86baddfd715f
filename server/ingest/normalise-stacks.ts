// Exceptions, threads and their stacks, in place. Of a long stack its beginning and its end are kept; variables and the lines
// of source around it only where they are near the crash, because that is where people look.

import type { Edit } from './edit.ts'
import { bounded, limits, shortened } from './limits.ts'
import { cut, type JsonObject, objectFrom, scalarText } from './values.ts'

export function normaliseException(exception: JsonObject, edit: Edit, name: string): void {
  // What was thrown may be anything.
  if (typeof exception.value === 'object' && exception.value !== null) {
    edit.set(exception, 'value', JSON.stringify(exception.value))
  }
  text(exception, 'type', limits.exceptionType, edit, name)
  text(exception, 'module', limits.frameText, edit, name)
  text(exception, 'thread_id', limits.frameText, edit, name)
  longText(exception, 'value', limits.exceptionValue, edit, name)
  if (objectIn(exception, 'mechanism', edit, name)) mechanism(exception.mechanism as JsonObject, edit, name)
  stacks(exception, edit, name)
}

export function normaliseThread(thread: JsonObject, edit: Edit, name: string): void {
  for (const key of ['id', 'name', 'state']) text(thread, key, limits.frameText, edit, name)
  for (const key of ['crashed', 'current', 'main']) boolean(thread, key, edit, name)
  stacks(thread, edit, name)
}

function stacks(holder: JsonObject, edit: Edit, name: string): void {
  for (const key of ['stacktrace', 'raw_stacktrace']) {
    if (objectIn(holder, key, edit, name)) normaliseStacktrace(holder[key] as JsonObject, edit, `${name}.${key}`)
  }
}

function mechanism(value: JsonObject, edit: Edit, name: string): void {
  for (const key of ['type', 'description', 'help_link', 'source']) text(value, key, limits.frameText, edit, name)
  for (const key of ['handled', 'synthetic', 'is_exception_group']) boolean(value, key, edit, name)
  for (const key of ['exception_id', 'parent_id']) {
    if (value[key] !== undefined && value[key] !== null && typeof value[key] !== 'number') {
      edit.wrong(value, key, `${name}.mechanism.${key}`)
    }
  }
  for (const key of ['data', 'meta']) if (objectIn(value, key, edit, name)) fit(value, key, limits.context, edit, name)
}

export function normaliseStacktrace(stack: JsonObject, edit: Edit, name: string): void {
  const { frames } = stack
  if (frames === undefined || frames === null) return
  if (!Array.isArray(frames)) {
    edit.wrong(stack, 'frames', `${name}.frames`)
    return
  }
  const most = limits.framesFirst + limits.framesLast
  if (frames.length > most) {
    edit.note('too_many_values', `${name}.frames`)
    frames.splice(limits.framesFirst, frames.length - most)
    edit.changed = true
  }
  const near = frames.length - limits.framesWithContext
  for (let i = 0; i < frames.length; i++) {
    const frame = frames[i]
    if (frame === null) continue
    if (typeof frame !== 'object' || Array.isArray(frame)) {
      edit.note('invalid_data', `${name}.frames`, frame)
      // Nothing instead of something, so that the frames after it keep their place.
      frames[i] = null
      edit.changed = true
    } else normaliseFrame(frame as JsonObject, i >= near, edit, name)
  }
}

const frameTexts = new Set([
  'function',
  'raw_function',
  'filename',
  'abs_path',
  'module',
  'package',
  'context_line',
  'platform',
  'addr_mode',
  'instruction_addr',
  'symbol_addr',
  'image_addr',
  'symbol',
  'source_link',
])
const frameNumbers = new Set(['lineno', 'colno'])

/** By the keys that it has: most frames have seven of thirty, and this runs for each. */
function normaliseFrame(frame: JsonObject, near: boolean, edit: Edit, name: string): void {
  for (const key of Object.keys(frame)) {
    const value = frame[key]
    if (value === null) continue
    if (typeof value === 'string' && frameTexts.has(key)) {
      if (value.length > limits.frameText) edit.set(frame, key, cut(value, limits.frameText))
    } else if (typeof value === 'boolean') {
      if (frameTexts.has(key) || frameNumbers.has(key)) text(frame, key, limits.frameText, edit, name)
    } else if (frameNumbers.has(key)) lineNumber(frame, key, edit, name)
    else if (frameTexts.has(key)) text(frame, key, limits.frameText, edit, name)
    else if (key === 'in_app') boolean(frame, key, edit, name)
    else if (key === 'vars') vars(frame, near, edit, name)
    else if (key === 'pre_context' || key === 'post_context') lines(frame, key, near, edit, name)
    else if (typeof value === 'object') fit(frame, key, limits.frameVars, edit, name)
  }
}

function lineNumber(frame: JsonObject, key: string, edit: Edit, name: string): void {
  const value = frame[key]
  if (typeof value === 'number') return
  if (typeof value === 'string' && /^\d{1,15}$/.test(value)) edit.set(frame, key, Number(value))
  else edit.wrong(frame, key, `${name}.${key}`)
}

function vars(frame: JsonObject, near: boolean, edit: Edit, name: string): void {
  if (!near) edit.drop(frame, 'vars')
  else if (typeof frame.vars === 'object') fit(frame, 'vars', limits.frameVars, edit, name)
  else {
    edit.wrong(frame, 'vars', `${name}.vars`)
  }
}

function lines(frame: JsonObject, key: string, near: boolean, edit: Edit, name: string): void {
  const value = frame[key]
  if (!near) edit.drop(frame, key)
  else if (!Array.isArray(value)) edit.wrong(frame, key, `${name}.${key}`)
  else sourceLines(value, edit)
}

function sourceLines(value: unknown[], edit: Edit): void {
  const most = 50
  if (value.length > most) {
    value.length = most
    edit.changed = true
  }
  for (let i = 0; i < value.length; i++) {
    const line = value[i]
    const read = line === null ? '' : scalarText(line)
    const short = read === null ? '' : shortened(read, limits.frameText)
    if (short === line) continue
    value[i] = short
    edit.changed = true
  }
}

function text(object: JsonObject, key: string, most: number, edit: Edit, name: string): void {
  const value = object[key]
  if (value === undefined || value === null) return
  const read = scalarText(value)
  if (read === null) {
    edit.wrong(object, key, `${name}.${key}`)
  } else if (read.length > most || read !== value) {
    if (read.length > most) edit.note('value_too_long', `${name}.${key}`)
    edit.set(object, key, cut(read, most))
  }
}

function longText(object: JsonObject, key: string, most: number, edit: Edit, name: string): void {
  const value = object[key]
  if (typeof value === 'string' && value.length > most) {
    edit.note('value_too_long', `${name}.${key}`)
    edit.set(object, key, shortened(value, most))
  } else text(object, key, most, edit, name)
}

function boolean(object: JsonObject, key: string, edit: Edit, name: string): void {
  const value = object[key]
  if (value === undefined || value === null || typeof value === 'boolean') return
  edit.wrong(object, key, `${name}.${key}`)
}

/** Whether there is an object; what else there is goes. */
function objectIn(holder: JsonObject, key: string, edit: Edit, name: string): boolean {
  const value = holder[key]
  if (value === undefined || value === null) return false
  if (objectFrom(value) !== null) return true
  edit.wrong(holder, key, `${name}.${key}`)
  return false
}

function fit(holder: JsonObject, key: string, most: number, edit: Edit, name: string): void {
  const { value, cut: wasCut } = bounded(holder[key], most, limits.depth)
  if (!wasCut) return
  edit.note('value_too_long', `${name}.${key}`)
  edit.set(holder, key, value)
  edit.changed = true
}
