// Secrets inside a text, replaced where they stand so that the rest can still be read. Every finder below goes through the
// text once from left to right and looks back or ahead by a bounded number of characters: linear time for any text. What
// characters a text holds decides which finders run at all; most texts of an event need none.

import { isIP } from 'node:net'
import type { Names } from './scrub-names.ts'
import { hiddenNumbers } from './scrub-numbers.ts'

export const filtered = '[Filtered]'

export interface TextRules {
  /** Whose values are hidden where a text has `name=value`; null for nobody's. */
  names: Names | null
  /** Whether things that are secret by their look are hidden: keys, cards, … */
  secrets: boolean
  /** Whether addresses of the Internet are. */
  ips: boolean
}

const has = { equals: 1, colon: 2, at: 4, dash: 8, space: 16, quote: 32, digit: 64, b: 128 } as const

/** By the low byte of a character: what is not Latin may look like more than it is, and is looked at for nothing. */
const kinds = new Uint8Array(256)
for (const [characters, kind] of [
  ['=', has.equals],
  [':', has.colon],
  ['@', has.at],
  ['-', has.dash],
  [' \t\n', has.space],
  ['"\'', has.quote],
  ['0123456789', has.digit],
  ['bB', has.b],
] as const) {
  for (const character of characters) kinds[character.charCodeAt(0)] = kind
}

/** A card has 13 digits, a social security number 9, and no IBAN has fewer than 9. */
const fewestDigits = 9

/**
 * In a `message`, which people write for people, addresses of mail are hidden too. In `source`, `login(password=given)` is
 * no secret: names count only before quotes and in queries of URLs.
 */
export type TextKind = 'text' | 'message' | 'source'

export function scrubText(text: string, rules: TextRules, kind: TextKind): string {
  const found = kindsOf(text)
  let clean = text
  if (rules.secrets) {
    if (found & has.dash && found & has.space) clean = hidePrivateKeys(clean)
    if (found & has.at && found & has.colon) clean = hideUserInfo(clean)
    if (found & has.b && found & has.space) clean = hideCredentials(clean)
    if (found & has.digit && text.length >= fewestDigits && hasDigits(text, fewestDigits)) {
      clean = hiddenNumbers(clean, filtered)
    }
    if (kind === 'message' && found & has.at) clean = hideEmails(clean)
  }
  const { names } = rules
  if (names !== null) {
    if (found & has.equals) clean = hideAssigned(clean, names, kind === 'source')
    if (found & has.quote && found & has.colon) clean = hideQuoted(clean, names)
  }
  if (rules.ips && found & has.digit) clean = hideAddresses(clean)
  return clean
}

function kindsOf(text: string): number {
  let found = 0
  for (let i = 0; i < text.length; i++) found |= kinds[text.charCodeAt(i) & 0xff]!
  return found
}

function hasDigits(text: string, most: number): boolean {
  let digits = 0
  for (let i = 0; i < text.length && digits < most; i++) if (kinds[text.charCodeAt(i) & 0xff] === has.digit) digits++
  return digits === most
}

/** `-----BEGIN RSA PRIVATE KEY-----` to its end, or to the end of a text that was cut before. */
function hidePrivateKeys(text: string): string {
  let clean = ''
  let from = 0
  for (;;) {
    const begin = text.indexOf('-----BEGIN ', from)
    if (begin === -1) break
    const dashes = text.indexOf('-----', begin + 11)
    if (dashes === -1) break
    const start = dashes + 5
    if (dashes - begin > 100 || !text.slice(begin, dashes).includes('PRIVATE KEY')) {
      clean += text.slice(from, start)
      from = start
      continue
    }
    const end = text.indexOf('-----END', start)
    clean += `${text.slice(from, start)}\n${filtered}\n`
    from = end === -1 ? text.length : end
    if (end === -1) break
  }
  return from === 0 ? text : clean + text.slice(from)
}

const databaseScheme =
  /(?:sql|mongodb|mongodb\+srv|postgres|redis|rediss|amqp|amqps|mssql|mariadb|clickhouse|ldap|smtp|smtps)$/i

/** `scheme://user:password@`: what stands between `//` and `@`, which has to come before the path. */
function hideUserInfo(text: string): string {
  let clean = ''
  let from = 0
  for (let at = text.indexOf('://'); at !== -1; at = text.indexOf('://', at + 3)) {
    const start = at + 3
    // Passwords of databases are often written unescaped, with slashes and all.
    const isDatabase = databaseScheme.test(text.slice(Math.max(0, at - 12), at))
    let end = -1
    for (let i = start; i < text.length && i < start + 1024; i++) {
      const code = text.charCodeAt(i)
      if (code === 0x40) end = i
      else if (code <= 0x20 || code === 0x22 || code === 0x27 || code === 0x3c || code === 0x3e || code === 0x60) break
      else if (!isDatabase && (code === 0x2f || code === 0x3f || code === 0x23)) break
    }
    if (end === -1 || end === start || text.startsWith(filtered, start)) continue
    clean += text.slice(from, start) + filtered
    from = end
  }
  return from === 0 ? text : clean + text.slice(from)
}

const nameMost = 64
/** `pw` */
const shortestName = 2

function isNameCode(code: number): boolean {
  return (
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x41 && code <= 0x5a) ||
    (code >= 0x30 && code <= 0x39) ||
    code === 0x5f ||
    code === 0x2d ||
    code === 0x2e ||
    code === 0x5b ||
    code === 0x5d ||
    code === 0x25
  )
}

/** The name that ends before `end`: `password`, `user[password]`, `--api-key`. */
function nameBefore(text: string, end: number): string {
  let start = end
  while (start > 0 && end - start < nameMost && isNameCode(text.charCodeAt(start - 1))) start--
  return text.slice(start, end)
}

const unquotedEnd = /[\s&;,"'<>)}\]|\\]/g

/** `name=value`: forms, queries, cookies, command lines, connection strings. */
function hideAssigned(text: string, names: Names, isSource: boolean): string {
  const mayBeQuery = text.includes('?') || text.includes('&')
  let clean = ''
  let from = 0
  for (let at = text.indexOf('='); at !== -1; at = text.indexOf('=', at + 1)) {
    if (at < from) continue
    const start = at + 1
    const next = text.charCodeAt(start)
    // == and => compare and map; at the end there is nothing to hide.
    if (start >= text.length || next === 0x3d || next === 0x3e) continue
    const isQuoted = isQuote(next)
    if (isSource && !isQuoted && !mayBeQuery) continue
    const name = nameBefore(text, at)
    if (name.length < shortestName || names.rule(name) !== 'hidden') continue
    const valueStart = isQuoted ? start + 1 : start
    if (text.startsWith(filtered, valueStart)) continue
    if (isSource && !isQuoted && !isQuery(text.charCodeAt(at - name.length - 1))) continue
    const end = isQuoted ? closingQuote(text, valueStart, text[start]!, 0) : unquotedStop(text, valueStart)
    if (end === valueStart) continue
    clean += text.slice(from, valueStart) + filtered
    from = end
  }
  return from === 0 ? text : clean + text.slice(from)
}

const isQuery = (before: number) => before === 0x3f || before === 0x26

function unquotedStop(text: string, from: number): number {
  unquotedEnd.lastIndex = from
  return unquotedEnd.exec(text)?.index ?? text.length
}

/** The quote that closes, where quotes of this text are escaped by `escapes` backslashes; the end where there is none. */
function closingQuote(text: string, from: number, quote: string, escapes: number): number {
  for (let at = text.indexOf(quote, from); at !== -1; at = text.indexOf(quote, at + 1)) {
    let before = 0
    while (at - before > from && before < 64 && text.charCodeAt(at - before - 1) === 0x5c) before++
    if (escapes === 0 ? before % 2 === 0 : before === escapes) return at - escapes
  }
  return text.length
}

/**
 * `"name": value` and `name: "value"`: JSON, also cut short or escaped, and how languages print objects. Values that are
 * objects or lists are hidden as far as their brackets go.
 */
function hideQuoted(text: string, names: Names): string {
  let clean = ''
  let from = 0
  for (let at = text.indexOf(':'); at !== -1; at = text.indexOf(':', at + 1)) {
    if (at < from) continue
    const { name, quoted } = keyBefore(text, at)
    // Where the value ends is looked for only when it is to go, so that no part of the text is searched twice.
    if (name.length < shortestName || names.rule(name) !== 'hidden') continue
    const value = valueAfter(text, at, quoted)
    if (value === null || value.end === value.start || text.startsWith(filtered, value.start)) continue
    clean += text.slice(from, value.start) + (value.bare ? `"${filtered}"` : filtered)
    from = value.end
  }
  return from === 0 ? text : clean + text.slice(from)
}

function keyBefore(text: string, colon: number): { name: string; quoted: boolean } {
  let end = colon
  while (end > 0 && text.charCodeAt(end - 1) === 0x20 && colon - end < 4) end--
  const quoted = isQuote(text.charCodeAt(end - 1))
  if (quoted) {
    end--
    while (end > 0 && colon - end < 16 && text.charCodeAt(end - 1) === 0x5c) end--
  }
  return { name: nameBefore(text, end), quoted }
}

interface Value {
  start: number
  end: number
  /** Without quotes of its own. */
  bare: boolean
}

function valueAfter(text: string, colon: number, quotedName: boolean): Value | null {
  let start = colon + 1
  while (start < text.length && start - colon < 8 && text.charCodeAt(start) <= 0x20) start++
  let escapes = 0
  while (escapes < 8 && text.charCodeAt(start + escapes) === 0x5c) escapes++
  const first = text.charCodeAt(start + escapes)
  if (isQuote(first)) {
    const inner = start + escapes + 1
    return { start: inner, end: closingQuote(text, inner, text[start + escapes]!, escapes), bare: false }
  }
  // `password: must not be blank` is a sentence.
  if (!quotedName || escapes > 0 || start >= text.length) return null
  if (first === 0x7b || first === 0x5b) return { start, end: closingBracket(text, start), bare: true }
  if (/^(?:null|true|false|None|True|False)\b/.test(text.slice(start, start + 6))) return null
  return { start, end: unquotedStop(text, start), bare: true }
}

const isQuote = (code: number) => code === 0x22 || code === 0x27

function closingBracket(text: string, from: number): number {
  let depth = 0
  for (let i = from; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x22) i = closingQuote(text, i + 1, '"', 0)
    else if (code === 0x7b || code === 0x5b) depth++
    else if ((code === 0x7d || code === 0x5d) && --depth === 0) return i + 1
  }
  return text.length
}

/** What follows these words in sentences about authorisation. */
const plainWords =
  /^(?:tokens?|auth|authentication|authorization|authorisation|scheme|realm|error|of|is|was|or|and|has|not|in)$/i

/** `Bearer …` and `Basic …`, as in Authorization headers. */
function hideCredentials(text: string): string {
  if (!/bearer\s|basic\s/i.test(text)) return text
  return text
    .replace(/\b(bearer)(\s{1,4})([^\s"',;)}\]<>\\]{1,8192})/gi, (all, word, space, token) =>
      plainWords.test(token) || token.startsWith('[Filtered') ? all : `${word}${space}${filtered}`,
    )
    .replace(/\b(basic)(\s{1,4})([A-Za-z0-9+/_-]{4,1024}={0,2})/gi, (all, word, space, token) =>
      Buffer.from(token, 'base64').includes(0x3a) ? `${word}${space}${filtered}` : all,
    )
}

function isLocalCode(code: number): boolean {
  return isNameCode(code) ? code !== 0x5b && code !== 0x5d : code === 0x2b || code > 127
}

function hideEmails(text: string): string {
  let clean = ''
  let from = 0
  for (let at = text.indexOf('@'); at !== -1; at = text.indexOf('@', at + 1)) {
    let start = at
    while (start > from && at - start < nameMost && isLocalCode(text.charCodeAt(start - 1))) start--
    if (start === at) continue
    const domain = /^[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}/.exec(text.slice(at + 1, at + 256))?.[0]
    if (domain === undefined || !/\.[A-Za-z]{2,63}$/.test(domain)) continue
    clean += text.slice(from, start) + filtered
    from = at + 1 + domain.length
  }
  return from === 0 ? text : clean + text.slice(from)
}

const addressLike = /[0-9A-Fa-f:.]{2,64}/g

/** Addresses of the Internet, old and new. Not `Chrome/120.0.0.0` and not `A::B`. */
function hideAddresses(text: string): string {
  return text.replace(addressLike, (all: string, at: number) => {
    const before = at === 0 ? 0x20 : text.charCodeAt(at - 1)
    const after = text.charCodeAt(at + all.length)
    if (isWord(before) || isWord(after) || before === 0x2f || before === 0x76) return all
    return addressHidden(all)
  })
}

/** Sentences end in a full stop, and an old address may have a port. */
function addressHidden(token: string): string {
  const plain = token.replace(/[.:]$/, '')
  const rest = token.slice(plain.length)
  if (/\d/.test(plain) && isIP(plain) !== 0) return `[ip]${rest}`
  const port = plain.lastIndexOf(':')
  return port > 0 && isIP(plain.slice(0, port)) === 4 ? `[ip]${plain.slice(port)}${rest}` : token
}

function isWord(code: number): boolean {
  return (
    (code >= 0x30 && code <= 0x39) || (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a) || code === 0x5f
  )
}
