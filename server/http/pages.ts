// The page at `/`, read into memory at start.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { HttpRoute } from './types.ts'

const files = [
  { path: '/', file: 'index.html', type: 'text/html; charset=utf-8' },
  { path: '/app.js', file: 'app.js', type: 'text/javascript; charset=utf-8' },
  { path: '/sign-in.js', file: 'sign-in.js', type: 'text/javascript; charset=utf-8' },
  { path: '/style.css', file: 'style.css', type: 'text/css; charset=utf-8' },
]

const headers = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
}

export function pageRoutes(): HttpRoute[] {
  return files.map(({ path, file, type }) => {
    const body = readFileSync(new URL(`../../web/${file}`, import.meta.url))
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
    return {
      method: 'get',
      path,
      handle(request) {
        const known = request.header('if-none-match') === etag
        return known
          ? { status: 304, headers: { ...headers, etag } }
          : { status: 200, headers: { ...headers, 'content-type': type, etag }, body }
      },
    }
  })
}
