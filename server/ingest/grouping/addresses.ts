// E-mail addresses, URLs, host names, IP and MAC addresses. Each matcher returns where the match that begins at `at` ends, or 0.

import { digitsEnd, isAlphanumeric, isDigit, isHex, isLetter } from './characters.ts'

const colon = 0x3a
const dash = 0x2d
const dot = 0x2e
const percent = 0x25
const slash = 0x2f
/** Of a placeholder, which was a number or a word: what goes on with one is not at its end. */
const opening = 0x3c

/** Where the run of characters ends that local parts, schemes and host names are made of, each of which it may be. */
export function nameRunEnd(text: string, at: number): number {
  let end = at
  while (isNameCharacter(text.charCodeAt(end))) end++
  return end
}

function isNameCharacter(code: number): boolean {
  return isAlphanumeric(code) || code === dot || code === dash || code === 0x5f || code === 0x2b || code === percent
}

/** `runEnd` is that of the run which begins at `at`. `react@18.2.0` is none: the last label of a domain has letters only. */
export function emailAt(text: string, runEnd: number): number {
  if (text.charCodeAt(runEnd) !== 0x40) return 0
  let known = 0
  let end = runEnd + 1
  for (let labels = 1; ; labels++, end++) {
    const start = end
    let letters = true
    while (isAlphanumeric(text.charCodeAt(end)) || text.charCodeAt(end) === dash) {
      letters &&= isLetter(text.charCodeAt(end))
      end++
    }
    if (labels > 1 && letters && end - start >= 2) known = end
    if (end === start || text.charCodeAt(end) !== dot) return known
  }
}

/** To the next white space, quote or bracket, without the punctuation that ends a sentence. */
export function urlAt(text: string, at: number, runEnd: number): number {
  if (text.charCodeAt(runEnd) !== colon || text.charCodeAt(runEnd + 1) !== slash) return 0
  if (text.charCodeAt(runEnd + 2) !== slash || !isLetter(text.charCodeAt(at))) return 0
  const start = runEnd + 3
  let end = start
  while (isUrlCharacter(text.charCodeAt(end))) end++
  while (end > start && isClosing(text.charCodeAt(end - 1))) end--
  return end > start ? end : 0
}

function isUrlCharacter(code: number): boolean {
  // Up to a space come the controls; NaN is beyond the end.
  return code > 0x20 && code !== 0x22 && code !== 0x27 && code !== 0x3c && code !== 0x3e && code !== 0x60
}

function isClosing(code: number): boolean {
  return (
    code === dot ||
    code === 0x2c ||
    code === colon ||
    code === 0x3b ||
    code === 0x21 ||
    code === 0x3f ||
    code === 0x29 ||
    code === 0x5d ||
    code === 0x7d
  )
}

// Few, because a name with dots is more often one of a program: System.IO, main.rs, console.info, user.id.
const topLevels = new Set(
  `com net org edu gov mil io dev co ai cloud app biz local localdomain internal lan corp intranet arpa eu uk de fr nl ch
   es pt se dk fi pl cz hu ro gr ie ru ua tr il jp cn kr tw hk sg nz au ca mx br ar cl za ng ke`.split(/\s+/),
)

/** `name.domain.tld`, lower-case at its end. Where there is none: minus where the search ended, before which there is none either. */
export function hostAt(text: string, at: number): number {
  let end = at
  let label = at
  let known = 0
  for (;;) {
    const code = text.charCodeAt(end)
    if (isAlphanumeric(code) || (code === dash && end > label)) {
      end++
      continue
    }
    const isLabel = end > label && text.charCodeAt(end - 1) !== dash
    known = isLabel && label > at && topLevels.has(text.slice(label, end)) ? end : 0
    if (code !== dot || !isAlphanumeric(text.charCodeAt(end + 1))) break
    label = ++end
  }
  const after = text.charCodeAt(end)
  const goesOn = after === 0x5f || after === 0x28 || (after === dot && text.charCodeAt(end + 1) === opening)
  return known === 0 || goesOn ? -end : known
}

export function ip4At(text: string, at: number): number {
  let end = at
  for (let part = 0; part < 4; part++) {
    const next = digitsEnd(text, end, 4)
    if (next === end || next - end > 3 || Number(text.slice(end, next)) > 255) return 0
    end = next
    if (part === 3) break
    if (text.charCodeAt(end) !== dot) return 0
    end++
  }
  if (isAlphanumeric(text.charCodeAt(end))) return 0
  return text.charCodeAt(end) === dot && isAlphanumeric(text.charCodeAt(end + 1)) ? 0 : end
}

/** Eight groups, or fewer with one `::`. `Abc::Def` is a name: there has to be a digit. */
export function ip6At(text: string, at: number): number {
  let end = at
  let groups = 0
  let gap = false
  let digit = false
  if (text.charCodeAt(at) === colon) {
    if (text.charCodeAt(at + 1) !== colon) return 0
    gap = true
    end = at + 2
  }
  while (groups < 8) {
    const start = end
    while (end - start < 5 && isHex(text.charCodeAt(end))) {
      digit ||= isDigit(text.charCodeAt(end))
      end++
    }
    if (end - start > 4) return 0
    if (end === start) break
    groups++
    if (text.charCodeAt(end) === dot) {
      const mapped = gap || groups === 7 ? ip4At(text, start) : 0
      if (mapped !== 0) return mapped
    }
    if (text.charCodeAt(end) !== colon) break
    if (text.charCodeAt(end + 1) === colon) {
      if (gap) return 0
      gap = true
      end += 2
    } else if (groups < 8 && isHex(text.charCodeAt(end + 1))) end++
    else break
  }
  const after = text.charCodeAt(end)
  const goesOn =
    isAlphanumeric(after) ||
    (after === opening && text.charCodeAt(end - 1) === colon) ||
    (after === colon && text.charCodeAt(end + 1) === opening)
  return goesOn || !digit || (gap ? groups > 7 : groups !== 8) ? 0 : zoneIdEnd(text, end)
}

/** `fe80::1%eth0`. */
function zoneIdEnd(text: string, at: number): number {
  if (text.charCodeAt(at) !== percent) return at
  let end = at + 1
  while (end - at < 16 && isAlphanumeric(text.charCodeAt(end))) end++
  return end === at + 1 || isAlphanumeric(text.charCodeAt(end)) ? at : end
}

/** Six pairs of hex digits, all apart by `:` or all by `-`. */
export function macAt(text: string, at: number): number {
  const separator = text.charCodeAt(at + 2)
  if (separator !== colon && separator !== dash) return 0
  let end = at
  for (let pair = 0; pair < 6; pair++) {
    if (!isHex(text.charCodeAt(end)) || !isHex(text.charCodeAt(end + 1))) return 0
    end += 2
    if (pair === 5) break
    if (text.charCodeAt(end) !== separator) return 0
    end++
  }
  const after = text.charCodeAt(end)
  const next = text.charCodeAt(end + 1)
  return isAlphanumeric(after) || (after === separator && (isHex(next) || next === opening)) ? 0 : end
}
