// Dates and times in the forms that programs print: ISO 8601, RFC 1123 and 850, Unix `date`, JavaScript, access logs, 15:04:05,
// 3:04PM. Each matcher returns where the match that begins at `at` ends, or 0, and looks at no more than 80 characters.

import { digitsEnd, isAlphanumeric, isDigit, isLetter, isUpper } from './characters.ts'

const colon = 0x3a
const comma = 0x2c
const dash = 0x2d
const dot = 0x2e
const plus = 0x2b
const slash = 0x2f
const space = 0x20

const days = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']
const longDays = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday']
const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'sept', 'oct', 'nov', 'dec']
const longMonths = 'january february march april may june july august september october november december'.split(' ')
const dayNames = new Set([...days, ...longDays])
const monthNames = new Set([...months, ...longMonths])
const beginnings = new Set([...days, ...months].map((name) => beginningAt(name, 0)))

/** The first three letters in one number: nearly all words are known by it not to be dates. */
function beginningAt(text: string, at: number): number {
  const [a, b, c] = [text.charCodeAt(at), text.charCodeAt(at + 1), text.charCodeAt(at + 2)]
  return ((a | 0x20) << 16) | ((b | 0x20) << 8) | (c | 0x20)
}

/** A date, a time, or both, that begins with a digit. */
export function dateAtDigit(text: string, at: number): number {
  const end = dateFromDigit(text, at)
  return end !== 0 && isAlphanumeric(text.charCodeAt(end)) ? 0 : end
}

function dateFromDigit(text: string, at: number): number {
  const first = digitsEnd(text, at, 9)
  const length = first - at
  const next = text.charCodeAt(first)
  if (length === 4 && (next === dash || next === slash)) return yearFirst(text, at, first, next)
  if (length === 8 && (next === 0x54 || next === 0x74)) return compact(text, at, first)
  if (length !== 1 && length !== 2) return 0
  if (next === colon) return timeAt(text, at, false)
  if (next === slash || next === dot || next === dash) return dayFirst(text, at, first, next)
  if (next === space) return dayAndMonth(text, at, first, space)
  return next === 0x41 || next === 0x61 || next === 0x50 || next === 0x70 ? clock(text, at, first) : 0
}

/** `2006-01-02`, `2006/01/02`, with a time and a zone or without. */
function yearFirst(text: string, at: number, first: number, separator: number): number {
  const month = twoDigits(text, first + 1, 1, 12)
  if (month === 0 || text.charCodeAt(month) !== separator) return 0
  const day = twoDigits(text, month + 1, 1, 31)
  if (day === 0 || isDigit(text.charCodeAt(day)) || !isYear(text, at)) return 0
  return withTime(text, day)
}

/** `20060102T150405Z`. */
function compact(text: string, at: number, first: number): number {
  if (!isYear(text, at)) return 0
  const time = digitsEnd(text, first + 1, 7)
  if (time - first !== 7 && time - first !== 5) return 0
  return zoneEnd(text, fractionEnd(text, time))
}

/** `02/Jan/2006:15:04:05 +0000`, `02-Jan-06`, `01/02/2006`, `1/2/06`, `02.01.2006`. */
function dayFirst(text: string, at: number, first: number, separator: number): number {
  if (!between(text, at, first, 1, 31)) return 0
  const name = nameEnd(text, first + 1, monthNames)
  const second = name || digitsEnd(text, first + 1, 3)
  if (second === first + 1 || text.charCodeAt(second) !== separator) return 0
  const year = digitsEnd(text, second + 1, 5)
  if (name !== 0) return year - second === 5 || year - second === 3 ? withTime(text, year) : 0
  if (second - first > 3 || !between(text, first + 1, second, 1, 31)) return 0
  if (separator === slash) return year - second === 5 || year - second === 3 ? withTime(text, year) : 0
  // Numbers with dots and dashes are versions and ranges unless they are written in full.
  return first - at === 2 && second - first === 3 && year - second === 5 ? withTime(text, year) : 0
}

/** `02 Jan 2006 15:04:05 GMT`. */
function dayAndMonth(text: string, at: number, first: number, separator: number): number {
  if (!between(text, at, first, 1, 31)) return 0
  const month = nameEnd(text, first + 1, monthNames)
  if (month === 0 || text.charCodeAt(month) !== separator) return 0
  const year = digitsEnd(text, month + 1, 5)
  return year - month === 5 || year - month === 3 ? withTime(text, year) : 0
}

/** `3PM`. */
function clock(text: string, at: number, first: number): number {
  return between(text, at, first, 1, 12) && isHalfDay(text, first) ? first + 2 : 0
}

/** `Mon, 02 Jan 2006 15:04:05 GMT`, `Mon Jan  2 15:04:05 2006`, `Jan 2, 2006`. */
export function dateAtLetter(text: string, at: number): number {
  if (!beginnings.has(beginningAt(text, at))) return 0
  const day = nameEnd(text, at, dayNames)
  let from = at
  if (day !== 0) {
    from = text.charCodeAt(day) === comma ? day + 1 : day
    if (text.charCodeAt(from) !== space) return 0
    from++
    if (isDigit(text.charCodeAt(from))) {
      const first = digitsEnd(text, from, 3)
      const separator = text.charCodeAt(first)
      const end = separator === dash ? dayFirst(text, from, first, dash) : dayAndMonth(text, from, first, space)
      return isAlphanumeric(text.charCodeAt(end)) ? 0 : end
    }
  }
  const end = monthFirst(text, from)
  return isAlphanumeric(text.charCodeAt(end)) ? 0 : end
}

/** `Jan  2 15:04:05 MST 2006`, `Jan 02 2006 15:04:05 GMT+0100 (Central European Standard Time)`, `January 2, 2006`, `Jan 2 15:04:05`. */
function monthFirst(text: string, at: number): number {
  const month = nameEnd(text, at, monthNames)
  if (month === 0 || text.charCodeAt(month) !== space) return 0
  const start = text.charCodeAt(month + 1) === space ? month + 2 : month + 1
  const day = digitsEnd(text, start, 3)
  if (!between(text, start, day, 1, 31)) return 0
  const from = text.charCodeAt(day) === comma ? day + 1 : day
  if (text.charCodeAt(from) !== space) return 0
  const time = timeAt(text, from + 1, true)
  if (time !== 0) return yearAfter(text, time)
  const year = digitsEnd(text, from + 1, 5)
  return year - from === 5 && isYear(text, from + 1) ? withTime(text, year) : 0
}

function yearAfter(text: string, at: number): number {
  if (text.charCodeAt(at) !== space || !isYear(text, at + 1)) return at
  const end = digitsEnd(text, at + 1, 5)
  return end - at === 5 && !isAlphanumeric(text.charCodeAt(end)) ? end : at
}

/** The end of the time that follows a date after `T`, a space, or as in access logs a colon; else where the date ends. */
function withTime(text: string, at: number): number {
  const code = text.charCodeAt(at)
  let from = at + 1
  if (code === comma && text.charCodeAt(from) === space) from++
  else if (code !== 0x54 && code !== 0x74 && code !== space && code !== colon) return at
  return timeAt(text, from, true) || at
}

/** `15:04:05.999 +0100`, `3:04:05 PM`, `3:04PM`; in a date also `15:04`. Alone, two numbers are not enough to be a time. */
function timeAt(text: string, at: number, dated: boolean): number {
  const hour = digitsEnd(text, at, 3)
  if (text.charCodeAt(hour) !== colon || !between(text, at, hour, 0, 24)) return 0
  const minute = twoDigits(text, hour + 1, 0, 59)
  if (minute === 0) return 0
  if (text.charCodeAt(minute) === colon) {
    const second = twoDigits(text, minute + 1, 0, 60)
    if (second === 0 || isDigit(text.charCodeAt(second))) return 0
    return zoneEnd(text, halfDayEnd(text, fractionEnd(text, second)))
  }
  const half = halfDayEnd(text, minute)
  if (half !== minute) return half
  return dated ? zoneEnd(text, minute) : 0
}

function fractionEnd(text: string, at: number): number {
  const code = text.charCodeAt(at)
  if (code !== dot && code !== comma) return at
  const end = digitsEnd(text, at + 1, 9)
  return end === at + 1 ? at : end
}

function halfDayEnd(text: string, at: number): number {
  const from = text.charCodeAt(at) === space ? at + 1 : at
  return isHalfDay(text, from) && !isAlphanumeric(text.charCodeAt(from + 2)) ? from + 2 : at
}

function isHalfDay(text: string, at: number): boolean {
  const first = text.charCodeAt(at) | 0x20
  return (first === 0x61 || first === 0x70) && (text.charCodeAt(at + 1) | 0x20) === 0x6d
}

/** `Z`, `+01:00`, ` +0100`, ` GMT`, ` GMT+0100 (Central European Standard Time)`, ` CEST`. */
function zoneEnd(text: string, at: number): number {
  const code = text.charCodeAt(at)
  if ((code | 0x20) === 0x7a) return at + 1
  const glued = offsetEnd(text, at)
  if (glued !== at || code !== space) return glued
  const apart = offsetEnd(text, at + 1)
  if (apart !== at + 1) return apart
  let name = at + 1
  while (name - at < 6 && isUpper(text.charCodeAt(name))) name++
  if (!zoneNames.has(text.slice(at + 1, name)) || isLetter(text.charCodeAt(name))) return at
  return spelledOut(text, offsetEnd(text, name))
}

function offsetEnd(text: string, at: number): number {
  const code = text.charCodeAt(at)
  if (code !== plus && code !== dash) return at
  const hour = twoDigits(text, at + 1, 0, 14)
  if (hour === 0) return at
  const minute = twoDigits(text, text.charCodeAt(hour) === colon ? hour + 1 : hour, 0, 59)
  const end = minute || hour
  return isAlphanumeric(text.charCodeAt(end)) ? at : end
}

/** JavaScript adds ` (Central European Standard Time)`. */
function spelledOut(text: string, at: number): number {
  if (text.charCodeAt(at) !== space || text.charCodeAt(at + 1) !== 0x28) return at
  let end = at + 2
  while (end - at < 48 && (isLetter(text.charCodeAt(end)) || text.charCodeAt(end) === space)) end++
  return text.charCodeAt(end) === 0x29 ? end + 1 : at
}

/** By name, because other words in capitals follow times too, HTTP verbs say. */
const zoneNames = new Set(
  'UTC GMT UT Z EST EDT CST CDT MST MDT PST PDT AKST AKDT HST BST IST CET CEST EET EEST MSK WET WEST JST KST SGT HKT AEST AEDT ACST AWST NZST NZDT BRT ART SAST'.split(
    ' ',
  ),
)

/** The end of one of these names in any mix of cases, 0 where there is none. */
function nameEnd(text: string, at: number, names: Set<string>): number {
  let end = at
  while (end - at < 10 && isLetter(text.charCodeAt(end))) end++
  return end - at >= 3 && names.has(text.slice(at, end).toLowerCase()) ? end : 0
}

function twoDigits(text: string, at: number, least: number, most: number): number {
  const end = digitsEnd(text, at, 2)
  return end - at === 2 && between(text, at, end, least, most) ? end : 0
}

function between(text: string, at: number, end: number, least: number, most: number): boolean {
  if (end - at < 1 || end - at > 2) return false
  const value = Number(text.slice(at, end))
  return value >= least && value <= most
}

function isYear(text: string, at: number): boolean {
  const value = Number(text.slice(at, at + 4))
  return value >= 1000 && value <= 2999
}
