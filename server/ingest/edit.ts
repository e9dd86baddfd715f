// What normalising did to an event: whether its payload has to be written anew, and what people are told of it. A note says
// which field was left out or cut; it becomes an entry of the event's `errors`, in Sentry's words.

import { cut, type JsonObject } from './values.ts'

export type NoteType =
  | 'invalid_data'
  | 'value_too_long'
  | 'too_many_values'
  | 'future_timestamp'
  | 'past_timestamp'
  | 'clock_drift'

export interface Note {
  type: NoteType
  name: string
  value?: unknown
}

const longestValue = 200

export class Edit {
  changed = false
  readonly notes: Note[] = []

  /** What was sent is told where it is short. */
  note(type: NoteType, name: string, value?: unknown): void {
    if (this.notes.some((note) => note.type === type && note.name === name)) return
    const told = typeof value === 'string' ? cut(value, longestValue) : value
    const isShort = typeof told === 'string' || typeof told === 'number' || typeof told === 'boolean'
    this.notes.push(isShort ? { type, name, value: told } : { type, name })
  }

  set(object: JsonObject, key: string, value: unknown): void {
    if (object[key] === value) return
    object[key] = value
    this.changed = true
  }

  drop(object: JsonObject, key: string): void {
    delete object[key]
    this.changed = true
  }

  /** What has the wrong type goes, and is told. */
  wrong(object: JsonObject, key: string, name: string): void {
    this.note('invalid_data', name, object[key])
    this.drop(object, key)
  }
}
