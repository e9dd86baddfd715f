// A browser's report that its page's content security policy refused something, in the two fields that name the problem.

import { type JsonObject, objectFrom, textFrom } from './values.ts'

export interface CspReport {
  /** `script-src-elem` */
  directive: string
  /** A host, or what stands for one: `self`, `inline`, `eval`, `data`, `blob`. */
  blocked: string
}

export function cspFrom(event: JsonObject): CspReport | null {
  const report = objectFrom(event.csp ?? event['sentry.interfaces.Csp'])
  if (report === null) return null
  const violated = textFrom(report.violated_directive ?? report['violated-directive'], 1024)
  const directive =
    textFrom(report.effective_directive ?? report['effective-directive'], 200) ?? violated?.split(/\s/, 1)[0] ?? null
  if (directive === null) return null
  const blocked = textFrom(report.blocked_uri ?? report['blocked-uri'] ?? report.blockedURL, 2048)
  const page = textFrom(report.document_uri ?? report['document-uri'] ?? report.documentURL, 2048)
  return { directive: directive.toLowerCase(), blocked: blockedFrom(blocked, page) }
}

function blockedFrom(blocked: string | null, page: string | null): string {
  if (blocked === null || blocked === 'self') return 'self'
  const host = hostFrom(blocked)
  if (host === null) return blocked.replace(/:.*$/s, '').slice(0, 200).toLowerCase()
  return page !== null && hostFrom(page) === host ? 'self' : host
}

/** Null for a word, and for a scheme without a host. */
function hostFrom(uri: string): string | null {
  if (!uri.includes('//')) return null
  try {
    return new URL(uri.startsWith('//') ? `https:${uri}` : uri).host || null
  } catch {
    return null
  }
}
