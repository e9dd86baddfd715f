// For operators: /healthz (the process), /readyz (can it do its work, and what holds it up), /metrics.

import type { HttpReply, HttpRoute } from './types.ts'

export interface Readiness {
  /** Whether events can be stored and subscribers hear of them. */
  ready: boolean
  [part: string]: unknown
}

export function serviceRoutes(deps: { readiness(): Promise<Readiness>; metrics(): Promise<string> }): HttpRoute[] {
  return [
    { method: 'get', path: '/healthz', handle: () => reply(200, { status: 'ok' }) },
    {
      method: 'get',
      path: '/readyz',
      async handle() {
        const { ready, ...parts } = await deps.readiness()
        return reply(ready ? 200 : 503, { status: ready ? 'ready' : 'not_ready', ...parts })
      },
    },
    {
      method: 'get',
      path: '/metrics',
      async handle() {
        const headers = { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }
        return { status: 200, headers, body: await deps.metrics() }
      },
    },
  ]
}

function reply(status: number, body: unknown): HttpReply {
  return { status, headers: { 'cache-control': 'no-store' }, body: JSON.stringify(body) }
}
