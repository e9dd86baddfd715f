// Names that hide their values. The defaults are those of Sentry's Relay (password, secret, api key, auth, credentials, token,
// otp, …) and a few that people expect beside them. A name is looked at once and remembered: SDKs send the same few
// hundred, and a regular expression for each key of each event would cost more than parsing it.

export interface NameSettings {
  scrub_defaults: boolean
  /** A name that contains one of these, in any case, hides its value. */
  sensitive_fields: readonly string[]
  /** A name that is one of these, in any case, does not. */
  safe_fields: readonly string[]
}

export type Rule =
  | 'plain'
  /** Its value is hidden. */
  | 'hidden'
  /** Its text is kept as it is. */
  | 'safe'
  /** Its value is a list of cookies, of which some are hidden. */
  | 'cookies'

export interface Names {
  rule(name: string): Rule
  hidesCookie(name: string): boolean
}

// "auth", but not author, authors and authority (of HTTP/2): those are no secrets, and an error without them is harder to read.
const sensitive =
  /pass(?:word|wd|phrase|code)|.pwd$|secret|(?:api|access|private|signing|encryption)[-_. ]?key|auth(?!or(?!i[sz]))|credential|token|jwt|csrf|xsrf|card[-_. ]?num|^(?:otp|totp|two[-_]?factor|pin|cvv2?|cvc|ssn|pass|pw|sig|x-amz-signature)$/i
const notSensitive = /^(?:oldpwd|x-csrf-protection)$/i
const cookies = /^(?:http_|set-)?cookies?2?$|\.(?:set-)?cookies?$/i

// Relay's list of session cookies, by what they have in common.
const sensitiveCookie =
  /sess|sid$|^connect\.|csrf|xsrf|symfony|auth|jwt|token|identity|remember|logged[-_]?in|^(?:sudo|su)$/i

const longest = 200
/** Far more than an application has; a client that makes names up costs nothing but this. */
const mostRemembered = 5_000

export function createNames({ scrub_defaults, sensitive_fields, safe_fields }: NameSettings): Names {
  const own = sensitive_fields.map((field) => field.trim().toLowerCase()).filter((field) => field !== '')
  const safe = new Set(safe_fields.map((field) => field.trim().toLowerCase()))
  const rules = new Map<string, Rule>()

  function isOwn(name: string): boolean {
    if (own.length === 0) return false
    const lower = name.toLowerCase()
    return own.some((field) => lower.includes(field))
  }

  function decide(name: string): Rule {
    if (safe.size > 0 && safe.has(name.toLowerCase())) return 'safe'
    if (isOwn(name)) return 'hidden'
    if (!scrub_defaults) return 'plain'
    if (cookies.test(name)) return 'cookies'
    return sensitive.test(name) && !notSensitive.test(name) ? 'hidden' : 'plain'
  }

  function rule(name: string): Rule {
    const known = rules.get(name)
    if (known !== undefined) return known
    const decided = decide(name.length > longest ? name.slice(0, longest) : name)
    if (name.length <= longest) {
      if (rules.size >= mostRemembered) rules.clear()
      rules.set(name, decided)
    }
    return decided
  }

  return {
    rule,
    hidesCookie(name) {
      const decided = rule(name)
      return (
        decided === 'hidden' || (decided !== 'safe' && scrub_defaults && sensitiveCookie.test(name.slice(0, longest)))
      )
    },
  }
}
