// "user 42 not found" and "user 77 not found" are one problem: what varies in a message becomes a placeholder. One pass from
// left to right over its first two lines, at most 1,024 characters of them, by hand: an adversary's text costs a step or two
// a character like any other (a test counts them), which no pattern with alternatives could promise.
// Parameterising twice changes nothing.

import { cut } from '../values.ts'
import { emailAt, hostAt, ip4At, ip6At, macAt, nameRunEnd, urlAt } from './addresses.ts'
import { isAlphanumeric, isDigit, wordAt } from './characters.ts'
import { dateAtDigit, dateAtLetter } from './dates.ts'
import { durationAt, hexAt, idAt, numberAt, tokenAt, traceAt, uuidAt } from './identifiers.ts'

const maxLength = 1024
const colon = 0x3a
const comma = 0x2c
const dash = 0x2d
const dot = 0x2e
const equals = 0x3d
const space = 0x20

export function parameterised(text: string): string {
  const short = firstLines(text)
  // Most messages hold nothing that varies, and this is soon known.
  if (!/[\d@=]|:\/|\.[a-z]/.test(short)) return short
  return bounded(placeholdersIn(short))
}

/** The first two that are not empty. */
function firstLines(text: string): string {
  const lines: string[] = []
  let start = 0
  const most = cut(text, 4 * maxLength).length
  while (start < most && lines.length < 2) {
    let end = start
    while (end < most && text.charCodeAt(end) !== 0x0a && text.charCodeAt(end) !== 0x0d) end++
    const line = text.slice(start, end).trim()
    if (line !== '') lines.push(line)
    start = end + 1
  }
  return cut(composed(lines.join('\n')), maxLength).trimEnd()
}

/** Placeholders are longer than what they stand for. The cut falls behind one, or at a space, so that no word becomes another. */
function bounded(text: string): string {
  const whole = composed(text)
  if (whole.length <= maxLength) return whole
  const end = Math.max(whole.lastIndexOf(' ', maxLength - 1), whole.lastIndexOf('>', maxLength - 1) + 1)
  return whole.slice(0, end).trimEnd()
}

/** NFC, also of what a placeholder and the mark behind it make. */
function composed(text: string): string {
  // Most texts are ASCII, and finding that out costs a tenth of composing them.
  return /[^\0-\x7f]/.test(text) ? text.normalize('NFC') : text
}

/** Reads `text` by charCodeAt, indexOf, startsWith and slice only: a test counts with a string of its own. */
export function placeholdersIn(text: string): string {
  const scan = createScan(text)
  let written = ''
  let copied = 0
  let at = 0
  while (at < text.length) {
    const placeholder = scan.match(at)
    if (placeholder === null) at = scan.end
    else {
      written += text.slice(copied, at) + placeholder
      copied = at = scan.end
    }
  }
  return written + text.slice(copied)
}

interface Scan {
  /** After `match`: where the match, or what does not match, ends. */
  end: number
  match(at: number): string | null
}

// What may be long is looked for once: the end of a run of name characters and whether it makes an address, a web token, a
// host name, a closing quote. The answer holds for all that is before its end.
function createScan(text: string): Scan {
  const newline = text.indexOf('\n')
  let runEnd = 0
  let emailEnd = 0
  let noTokenUntil = 0
  let noHostUntil = 0
  const closing = { "'": -1, '"': -1 }

  const scan: Scan = {
    end: 0,
    match(at) {
      const code = text.charCodeAt(at)
      if (isAlphanumeric(code)) return word(at, code)
      if (code === equals) return assigned(at)
      if (code === colon && text.charCodeAt(at + 1) === colon && startsAddress(text, at)) {
        if (found(ip6At(text, at))) return '<ip>'
      }
      scan.end = at + 1
      return null
    },
  }

  /** Always at the beginning of a word: the ends of matches and of words are borders. */
  function word(at: number, code: number): string | null {
    const here = wordAt(text, at)
    const next = text.charCodeAt(here.end)
    if (at >= runEnd) {
      runEnd = nameRunEnd(text, at)
      emailEnd = emailAt(text, runEnd)
    }
    if (found(emailEnd)) return '<email>'
    if (found(urlAt(text, at, runEnd))) return '<url>'
    if (code === 0x65 && at >= noTokenUntil) {
      const end = tokenAt(text, at, runEnd)
      if (end < 0) noTokenUntil = -end
      else if (found(end)) return '<id>'
    }
    const digit = isDigit(code)
    const length = here.end - at
    // Each is tried only where the first word leaves it possible: most words are words.
    if (here.hex) {
      if (next === dash) {
        if (length === 8 && found(uuidAt(text, at))) return '<uuid>'
        if ((length === 2 || length === 32) && found(traceAt(text, at))) return '<trace>'
      }
      if (length === 2 && found(macAt(text, at))) return '<mac>'
    }
    if (digit) {
      if (found(dateAtDigit(text, at))) return '<date>'
      if (next === dot && found(ip4At(text, at))) return '<ip>'
    } else if (next === space || next === comma) {
      if (found(dateAtLetter(text, at))) return '<date>'
    }
    if (here.hex && next === colon && found(ip6At(text, at))) return '<ip>'
    if ((next === dot || next === dash) && at >= noHostUntil) {
      const end = hostAt(text, at)
      if (end < 0) noHostUntil = -end
      else if (found(end)) return '<host>'
    }
    if (here.digits === 0) {
      scan.end = here.end
      return null
    }
    if (digit && found(durationAt(text, at))) return '<dur>'
    if (found(hexAt(text, at, here))) return '<hex>'
    if (found(idAt(text, at, here))) return '<id>'
    if (digit && found(numberAt(text, at))) return '<num>'
    scan.end = here.end
    return null
  }

  /** What stands right of a `=`: a quoted text or a truth value. */
  function assigned(at: number): string | null {
    const from = at + 1
    scan.end = from
    const quote = text.charCodeAt(from) === 0x27 ? "'" : text.charCodeAt(from) === 0x22 ? '"' : null
    const end = quote === null ? truthEnd(from) : quotedEnd(from, quote)
    if (end === 0) return null
    scan.end = end
    return quote === null ? '=<bool>' : '=<str>'
  }

  function quotedEnd(from: number, quote: '"' | "'"): number {
    if (closing[quote] <= from) {
      const end = text.indexOf(quote, from + 1)
      closing[quote] = end === -1 ? Number.POSITIVE_INFINITY : end
    }
    const end = closing[quote]
    return end === Number.POSITIVE_INFINITY || (newline > from && newline < end) ? 0 : end + 1
  }

  function truthEnd(from: number): number {
    for (const value of ['true', 'false', 'True', 'False']) {
      const end = from + value.length
      if (text.startsWith(value, from)) return isWordCharacter(text, end) ? 0 : end
    }
    return 0
  }

  function found(end: number): boolean {
    if (end === 0) return false
    scan.end = end
    return true
  }

  return scan
}

/** Not right of a word or a placeholder, of which `::` may be a part. */
function startsAddress(text: string, at: number): boolean {
  return !isWordCharacter(text, at - 1) && text.charCodeAt(at - 1) !== 0x3e
}

function isWordCharacter(text: string, at: number): boolean {
  const code = text.charCodeAt(at)
  return isAlphanumeric(code) || code === 0x5f
}
