// What browsers send to `/security/` by themselves -> event payloads. Content Security Policy comes in two forms:
//   report-uri   application/csp-report     {"csp-report": {"blocked-uri": …}}
//   report-to    application/reports+json   [{"type": "csp-violation", "body": {"blockedURL": …}}, …]
// https://www.w3.org/TR/CSP3/#reporting, https://www.w3.org/TR/reporting-1/. Other kinds of reports (deprecations, network
// errors, Expect-CT, …) are read past.

import { AppError } from '../errors.ts'
import { parseJson } from './json.ts'
import { type JsonObject, objectFrom, textFrom } from './values.ts'

const maxReports = 100

export interface SecurityReports {
  /** One payload of an event a report. */
  events: JsonObject[]
  /** Reports of other kinds. */
  others: number
}

export interface ReportContext {
  /** Raw query string; Sentry's report URLs may name release and environment there. */
  query: string
  userAgent: string
}

/** Throws bad_request for what is no report of any kind. */
export function securityReportsFrom(bytes: Buffer, context: ReportContext): SecurityReports {
  const { value } = parseJson(bytes)
  const list = Array.isArray(value) ? value : [value]
  if (list.length > maxReports) throw new AppError('bad_request', `At most ${maxReports} reports may be sent at once.`)
  const reports: SecurityReports = { events: [], others: 0 }
  for (const element of list) {
    const report = objectFrom(element)
    if (report === null) throw noReport()
    const csp = cspFrom(report)
    if (csp === null) reports.others += 1
    else reports.events.push(eventFrom(csp, textFrom(report.user_agent, 1024) ?? context.userAgent, context.query))
  }
  return reports
}

interface Csp extends JsonObject {
  effective_directive: string
  blocked_uri: string | null
  document_uri: string | null
  referrer: string | null
  violated_directive: string | null
}

/** Null for a report of another kind. */
function cspFrom(report: JsonObject): Csp | null {
  const byReportUri = objectFrom(report['csp-report'])
  const byReportTo = report.type === 'csp-violation' ? objectFrom(report.body) : null
  if (byReportUri === null && byReportTo === null) {
    if (typeof report.type === 'string' || Object.keys(report).some((key) => key.endsWith('-report'))) return null
    throw noReport()
  }
  const field = (kebab: string, camel: string, most: number) =>
    textFrom(byReportUri === null ? byReportTo![camel] : byReportUri[kebab], most)
  const violated = field('violated-directive', 'violatedDirective', 512)
  const effective = field('effective-directive', 'effectiveDirective', 512) ?? violated
  const directive = effective?.split(/\s/, 1)[0]
  if (!directive) throw new AppError('bad_request', 'The CSP report names no directive that was violated.')
  return {
    document_uri: field('document-uri', 'documentURL', 2048) ?? textFrom(report.url, 2048),
    referrer: field('referrer', 'referrer', 2048),
    blocked_uri: field('blocked-uri', 'blockedURL', 2048),
    violated_directive: violated,
    effective_directive: directive.toLowerCase(),
    original_policy: field('original-policy', 'originalPolicy', 8192),
    disposition: field('disposition', 'disposition', 64),
    status_code: numberFrom(byReportUri?.['status-code'] ?? byReportTo?.statusCode),
    source_file: field('source-file', 'sourceFile', 2048),
    line_number: numberFrom(byReportUri?.['line-number'] ?? byReportTo?.lineNumber),
    column_number: numberFrom(byReportUri?.['column-number'] ?? byReportTo?.columnNumber),
    script_sample: field('script-sample', 'sample', 256),
  }
}

function eventFrom(csp: Csp, userAgent: string, query: string): JsonObject {
  const search = new URLSearchParams(query)
  const headers: [string, string][] = []
  if (userAgent !== '') headers.push(['User-Agent', userAgent.slice(0, 1024)])
  if (csp.referrer !== null) headers.push(['Referer', csp.referrer])
  const present = Object.fromEntries(Object.entries(csp).filter(([, value]) => value !== null))
  return {
    type: 'csp',
    platform: 'javascript',
    logger: 'csp',
    level: 'error',
    logentry: { formatted: messageOf(csp) },
    csp: present,
    tags: { 'effective-directive': csp.effective_directive, 'blocked-uri': blockedFrom(csp.blocked_uri) },
    request: { url: csp.document_uri, headers },
    release: search.get('sentry_release'),
    environment: search.get('sentry_environment'),
  }
}

const unnamed = new Map([
  ['script-src', "unsafe (eval() or inline) 'script'"],
  ['form-action', "inline 'form' action"],
])

/** One text for each directive and host, whatever page it was on: `Blocked 'img' from 'evil.example.com'`. */
function messageOf({ effective_directive, blocked_uri }: Csp): string {
  const blocked = blockedFrom(blocked_uri)
  const what = effective_directive.replace(/-(src|src-elem|src-attr)$/, '')
  if (blocked !== 'self' && blocked !== 'inline' && blocked !== 'eval') {
    return effective_directive === 'form-action'
      ? `Blocked 'form' action to '${blocked}'`
      : `Blocked '${what}' from '${blocked}'`
  }
  if (blocked === 'eval') return `Blocked unsafe eval() '${what}'`
  return `Blocked ${unnamed.get(effective_directive) ?? `inline '${what}'`}`
}

/** The host of an address, the scheme of what has no host (`data:`), or the keyword that stands instead. */
function blockedFrom(uri: string | null): string {
  if (uri === null || uri === '' || uri === 'self') return 'self'
  if (!URL.canParse(uri)) return uri.slice(0, 200)
  const { host, protocol } = new URL(uri)
  return host === '' ? protocol.slice(0, -1) : host
}

function numberFrom(value: unknown): number | null {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : null
}

function noReport(): AppError {
  return new AppError('bad_request', 'This is no security report: send {"csp-report": {...}}, or a list of reports.')
}
