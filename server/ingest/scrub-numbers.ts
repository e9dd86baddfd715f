// Numbers that name a person's money or person: payment cards, IBANs, social security numbers of the United States. Their
// check digits are computed, so that order numbers and timestamps of the same length stay readable.

const maxCardDigits = 19
const maxIban = 34
/** Cards are written 4 4 4 4, 4 6 5 or 4 6 4. */
const leastGroup = 4

/** Countries and lengths of https://www.swift.com/standards/data-standards/iban-international-bank-account-number. */
const ibanLengths = new Map(
  (
    'AD24 AE23 AL28 AO25 AT20 AZ28 BA20 BE16 BF28 BG22 BH22 BI27 BJ28 BR29 BY28 CF27 CG27 CH21 CI28 CM27 CR22 CV25 CY28 CZ24 ' +
    'DE22 DJ27 DK18 DO28 DZ26 EE20 EG29 ES24 FI18 FO18 FR27 GA27 GB22 GE22 GI23 GL18 GQ27 GR27 GT28 GW25 HN28 HR21 HU28 IE22 ' +
    'IL23 IQ23 IR26 IS26 IT27 JO30 KM27 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MA28 MC27 MD24 ME22 MG27 MK19 ML28 MR27 ' +
    'MT31 MU30 MZ25 NE28 NI28 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SE24 SI19 SK24 SM27 SN28 ST25 SV28 ' +
    'TD27 TG28 TL23 TN24 TR26 UA29 VA22 VG24 XK20'
  )
    .split(' ')
    .map((entry) => [entry.slice(0, 2), Number(entry.slice(2))]),
)

export function hiddenNumbers(text: string, mark: string): string {
  let clean = ''
  let from = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    const starts = (isDigit(code) || isUpper(code)) && !isInside(text, at)
    if (!starts) continue
    const end = isDigit(code) ? endOfNumber(text, at) : endOfIban(text, at)
    if (end === -1) {
      at = endOfWord(text, at) - 1
      continue
    }
    clean += text.slice(from, at) + mark
    from = end
    at = end - 1
  }
  return from === 0 ? text : clean + text.slice(from)
}

/** Whether a number that is no text is a card. */
export function isCardNumber(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1e12 && isCard(String(value))
}

function endOfNumber(text: string, at: number): number {
  const ssn = endOfSsn(text, at)
  if (ssn !== -1) return ssn
  let digits = ''
  let group = 0
  for (let i = at; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (isDigit(code)) {
      digits += text[i]
      group++
      if (digits.length > maxCardDigits) return -1
      const next = text.charCodeAt(i + 1)
      if (!isWord(next) && !(next === 0x2e && isDigit(text.charCodeAt(i + 2))) && isCard(digits)) return i + 1
    } else {
      const separates = (code === 0x20 || code === 0x2d) && isDigit(text.charCodeAt(i + 1))
      if (!separates || group < leastGroup) return -1
      group = 0
    }
  }
  return -1
}

function isCard(digits: string): boolean {
  return digits.length === cardLength(digits) && luhn(digits)
}

/** By issuer: American Express 15, Diners 14, Visa 16 (or 13, 19), Mastercard, Discover and JCB 16, UnionPay 16 to 19. */
function cardLength(digits: string): number {
  const first = digits.charCodeAt(0) - 0x30
  const two = Number(digits.slice(0, 2))
  if (first === 4) return digits.length === 19 || digits.length === 13 ? digits.length : 16
  if (two === 34 || two === 37) return 15
  if (two === 36 || two === 38 || (two === 30 && digits.charCodeAt(2) <= 0x35)) return 14
  if (two === 62) return Math.max(16, digits.length)
  if (two === 35 || (two >= 50 && two <= 58) || two === 60 || two === 64 || two === 65) return 16
  const four = Number(digits.slice(0, 4))
  return four >= 2221 && four <= 2720 ? 16 : -1
}

function luhn(digits: string): boolean {
  let sum = 0
  for (let i = digits.length - 1, double = false; i >= 0; i--, double = !double) {
    const digit = digits.charCodeAt(i) - 0x30
    sum += double ? (digit > 4 ? digit * 2 - 9 : digit * 2) : digit
  }
  return sum > 0 && sum % 10 === 0
}

/** 123-45-6789, without the numbers that are never given out. */
function endOfSsn(text: string, at: number): number {
  if (text.charCodeAt(at + 3) !== 0x2d || text.charCodeAt(at + 6) !== 0x2d) return -1
  const parts = /^(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}$/.test(text.slice(at, at + 11))
  const after = text.charCodeAt(at + 11)
  return parts && !isWord(after) && after !== 0x2d ? at + 11 : -1
}

/** With or without a space after each four characters. */
function endOfIban(text: string, at: number): number {
  if (!isUpper(text.charCodeAt(at + 1)) || !isDigit(text.charCodeAt(at + 2)) || !isDigit(text.charCodeAt(at + 3)))
    return -1
  const length = ibanLengths.get(text.slice(at, at + 2))
  if (length === undefined) return -1
  let plain = ''
  let i = at
  for (; i < text.length && plain.length < length && i - at < maxIban + 9; i++) {
    const code = text.charCodeAt(i)
    if (isDigit(code) || isUpper(code)) plain += text[i]
    else if (code !== 0x20 || plain.length % 4 !== 0) return -1
  }
  return plain.length === length && !isWord(text.charCodeAt(i)) && mod97(plain) === 1 ? i : -1
}

function mod97(iban: string): number {
  let rest = 0
  for (const character of iban.slice(4) + iban.slice(0, 4)) {
    const value = Number.parseInt(character, 36)
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97
  }
  return rest
}

/** A word, an id or a decimal goes on here: what starts in its middle is no number of its own. */
function isInside(text: string, at: number): boolean {
  if (at === 0) return false
  const before = text.charCodeAt(at - 1)
  return isWord(before) || ((before === 0x2e || before === 0x2d) && at > 1 && isDigit(text.charCodeAt(at - 2)))
}

function endOfWord(text: string, at: number): number {
  let end = at
  while (end < text.length && isWord(text.charCodeAt(end))) end++
  return Math.max(end, at + 1)
}

const isDigit = (code: number) => code >= 0x30 && code <= 0x39
const isUpper = (code: number) => code >= 0x41 && code <= 0x5a
const isWord = (code: number) => isDigit(code) || isUpper(code) || (code >= 0x61 && code <= 0x7a) || code === 0x5f
