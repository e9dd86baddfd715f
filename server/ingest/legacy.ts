// Names that events had before 2018, when each part was an "interface": the old name is replaced by today's, so that everything
// after this knows one name. Where both were sent, today's wins.

import type { JsonObject } from './values.ts'

const names = [
  ['sentry.interfaces.Exception', 'exception'],
  ['sentry.interfaces.Message', 'logentry'],
  ['sentry.interfaces.User', 'user'],
  ['sentry.interfaces.Http', 'request'],
  ['sentry.interfaces.Contexts', 'contexts'],
  ['sentry.interfaces.Breadcrumbs', 'breadcrumbs'],
  ['sentry.interfaces.Stacktrace', 'stacktrace'],
  ['sentry.interfaces.Template', 'template'],
  ['sentry.interfaces.Csp', 'csp'],
  ['sentry.interfaces.Query', 'query'],
] as const

/** Whether anything was renamed. */
export function renameLegacy(event: JsonObject): boolean {
  let renamed = false
  for (const [old, name] of names) {
    if (event[old] === undefined) continue
    if (event[name] === undefined || event[name] === null) event[name] = event[old]
    delete event[old]
    renamed = true
  }
  return renamed
}
