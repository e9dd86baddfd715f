// UUIDs, traces, digests, random ids, durations and numbers. Each matcher returns where the match that begins at `at` ends, or 0.

import { digitsEnd, isAlphanumeric, isDigit, isHex, isLetter, looksLikeHash, type Word } from './characters.ts'

const dash = 0x2d
const dot = 0x2e
const plus = 0x2b
const underscore = 0x5f

/** 9ec79c33-ec99-42ab-8353-589fcb2e04dc */
export function uuidAt(text: string, at: number): number {
  return hexGroups(text, at, [8, 4, 4, 4, 12])
}

/** W3C's traceparent, or Sentry's: trace, span, and whether it is sampled. */
export function traceAt(text: string, at: number): number {
  return hexGroups(text, at, [2, 32, 16, 2]) || hexGroups(text, at, [32, 16, 1]) || hexGroups(text, at, [32, 16])
}

function hexGroups(text: string, at: number, lengths: number[]): number {
  let end = at
  for (const [index, length] of lengths.entries()) {
    if (index > 0 && text.charCodeAt(end++) !== dash) return 0
    const start = end
    while (end - start < length && isHex(text.charCodeAt(end))) end++
    if (end - start < length) return 0
  }
  return isAlphanumeric(text.charCodeAt(end)) ? 0 : end
}

/** `0x7ffe01`, and what looks like a digest. */
export function hexAt(text: string, at: number, word: Word): number {
  if (looksLikeHash(word, at)) return word.end
  if (text.charCodeAt(at) !== 0x30 || (text.charCodeAt(at + 1) | 0x20) !== 0x78) return 0
  const length = word.end - at - 2
  if (length < 1 || length > 128) return 0
  for (let i = at + 2; i < word.end; i++) if (!isHex(text.charCodeAt(i))) return 0
  return word.end
}

/**
 * Long words with digits, and shorter ones after a prefix (`ch_3Nx81kLm9`) when they look random, which names with a number
 * in them do not: `utf8_general_ci`, `as_base64url`.
 */
export function idAt(text: string, at: number, word: Word): number {
  const length = word.end - at
  if (word.digits === 0 || word.digits === length) return 0
  if (length >= 16) return word.end
  const isPrefixed = text.charCodeAt(at - 1) === underscore && isAlphanumeric(text.charCodeAt(at - 2))
  return isPrefixed && length >= 8 && looksRandom(word, length) ? word.end : 0
}

function looksRandom(word: Word, length: number): boolean {
  if (word.lower > 0 && word.upper > 0) return word.runs * 2 > length
  return word.digits > 1 && word.runs > 3
}

/**
 * A JSON web token; its three parts are base64url. `runEnd` is where the run of name characters at `at` ends. Where there is
 * none: minus where the search ended, before which there is none either.
 */
export function tokenAt(text: string, at: number, runEnd: number): number {
  if (runEnd - at < 20 || !text.startsWith('eyJ', at)) return 0
  let parts = 1
  let end = at
  for (; end < runEnd; end++) {
    const code = text.charCodeAt(end)
    if (code === dot && parts < 3 && isAlphanumeric(text.charCodeAt(end + 1))) parts++
    else if (!isAlphanumeric(code) && code !== dash && code !== underscore) break
  }
  return parts > 1 ? end : -end
}

const units = new Set(['ns', 'us', 'µs', 'μs', 'ms', 's', 'sec', 'secs', 'm', 'min', 'mins', 'h', 'hr', 'hrs', 'd'])
const sizes = new Set([
  'B',
  'b',
  'kb',
  'kB',
  'KB',
  'MB',
  'GB',
  'TB',
  'KiB',
  'MiB',
  'GiB',
  'TiB',
  'Ki',
  'Mi',
  'Gi',
  'bytes',
  'px',
])

/** `3000ms`, `2.5s`, `1h30m5s`. */
export function durationAt(text: string, at: number): number {
  let end = at
  for (let part = 0; part < 5; part++) {
    const number = decimalEnd(text, end)
    const unit = unitEnd(text, number)
    if (number === end || !units.has(text.slice(number, unit))) return 0
    end = unit
    if (!isDigit(text.charCodeAt(end))) return isLetter(text.charCodeAt(end)) ? 0 : end
  }
  return 0
}

/** Whole or with a fraction, perhaps with an exponent, or before the unit of a size, which stays. */
export function numberAt(text: string, at: number): number {
  const whole = digitsEnd(text, at)
  const decimal = decimalEnd(text, at)
  for (const end of [exponentEnd(text, decimal), decimal, whole]) {
    if (!isAlphanumeric(text.charCodeAt(end)) || isSize(text, end)) return end
  }
  return 0
}

function isSize(text: string, at: number): boolean {
  const end = unitEnd(text, at)
  return end > at && !isAlphanumeric(text.charCodeAt(end)) && sizes.has(text.slice(at, end))
}

function decimalEnd(text: string, at: number): number {
  const whole = digitsEnd(text, at)
  if (whole === at || text.charCodeAt(whole) !== dot) return whole
  const end = digitsEnd(text, whole + 1)
  return end === whole + 1 ? whole : end
}

function exponentEnd(text: string, at: number): number {
  if ((text.charCodeAt(at) | 0x20) !== 0x65) return at
  const sign = text.charCodeAt(at + 1)
  const from = sign === plus || sign === dash ? at + 2 : at + 1
  const end = digitsEnd(text, from, 4)
  return end === from ? at : end
}

function unitEnd(text: string, at: number): number {
  let end = at
  while (end - at < 6) {
    const code = text.charCodeAt(end)
    if (!isLetter(code) && code !== 0xb5 && code !== 0x3bc) break
    end++
  }
  return end
}
