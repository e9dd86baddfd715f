// Kinds of characters, by code, for scanners that read a text once from left to right.

const digit = 1
const lower = 2
const upper = 4
const hexLetter = 8

const kinds = new Uint8Array(128)
for (let code = 0x30; code <= 0x39; code++) kinds[code] = digit
for (let code = 0x61; code <= 0x7a; code++) kinds[code] = lower
for (let code = 0x41; code <= 0x5a; code++) kinds[code] = upper
for (const code of 'abcdefABCDEF') kinds[code.charCodeAt(0)]! |= hexLetter

/** Zero beyond ASCII, and beyond the end of a text, where charCodeAt is NaN: as an index it would cost twenty times as much. */
const kindOf = (code: number) => (code < 128 ? kinds[code]! : 0)

export const isDigit = (code: number) => kindOf(code) === digit
export const isUpper = (code: number) => (kindOf(code) & upper) !== 0
export const isLower = (code: number) => (kindOf(code) & lower) !== 0
export const isLetter = (code: number) => (kindOf(code) & (lower | upper)) !== 0
export const isAlphanumeric = (code: number) => kindOf(code) !== 0
export const isHex = (code: number) => (kindOf(code) & (digit | hexLetter)) !== 0

/** The end of the digits from `at`, at most `most` of them. */
export function digitsEnd(text: string, at: number, most = Number.POSITIVE_INFINITY): number {
  let end = at
  while (end - at < most && isDigit(text.charCodeAt(end))) end++
  return end
}

/** A run of ASCII letters and digits, as long as it is, and what it is made of. */
export interface Word {
  end: number
  digits: number
  lower: number
  upper: number
  /** Runs of one kind: `3Nx81` has four. */
  runs: number
  hex: boolean
}

export function wordAt(text: string, at: number): Word {
  const word: Word = { end: at, digits: 0, lower: 0, upper: 0, runs: 0, hex: true }
  for (let before = 0; ; word.end++) {
    const kind = kindOf(text.charCodeAt(word.end))
    if (kind === 0) return word
    const plain = kind & (digit | lower | upper)
    if (plain !== before) word.runs++
    before = plain
    if (plain === digit) word.digits++
    else if (plain === lower) word.lower++
    else word.upper++
    if (kind === lower || kind === upper) word.hex = false
  }
}

/** 7 or more hex digits of one case with both a digit and a letter, as in revisions and digests. `facade` is a word. */
export function looksLikeHash(word: Word, start: number): boolean {
  const length = word.end - start
  return (
    word.hex &&
    length >= 7 &&
    length <= 128 &&
    word.digits > 0 &&
    word.digits < length &&
    (word.lower === 0 || word.upper === 0)
  )
}
