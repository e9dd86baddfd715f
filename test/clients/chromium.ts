// A real Chromium, and a page with @sentry/browser for it on an origin of its own.

import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Scope } from '../support/scope.ts'
import { here, missing, requireClient } from './installed.ts'

/** What the tests use of playwright-core, whose own types are there only where it is installed. */
export interface Page {
  goto(url: string): Promise<unknown>
  evaluate<T>(work: () => T | Promise<T>): Promise<T>
  clock: { setFixedTime(milliseconds: number): Promise<void> }
}
interface Playwright {
  chromium: {
    launch(options: object): Promise<{ newPage(): Promise<Page>; close(): Promise<void> }>
  }
}

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)

export const missingChromium =
  missing('@sentry/browser') || missing('playwright-core') || (executablePath ? false : 'Chromium is not installed')

// As root there is no sandbox; the rest keeps it from asking its maker for anything.
const args = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export async function openPage(t: Scope): Promise<Page> {
  const { chromium } = requireClient('playwright-core') as Playwright
  const browser = await chromium.launch({ executablePath, args })
  t.after(() => browser.close())
  return browser.newPage()
}

interface Served {
  /** Instead of programs/browser.js. */
  script?: string
  headers?: Record<string, string>
  /** Of the page, after the script. */
  body?: string
}

/** Serves a page with a script that uses @sentry/browser. Resolves with its origin. */
export async function servePage(t: Scope, { script, headers = {}, body = '' }: Served = {}): Promise<string> {
  const { build } = requireClient('esbuild') as typeof import('esbuild')
  const source = script
    ? { stdin: { contents: script, resolveDir: here } }
    : { entryPoints: [`${here}programs/browser.js`] }
  const bundle = await build({ ...source, bundle: true, write: false, logLevel: 'error' })
  const bundled = bundle.outputFiles[0]!.text
  const server = createServer((incoming, outgoing) => {
    const [path] = incoming.url!.split('?')
    if (path === '/shop.js') outgoing.writeHead(200, { 'content-type': 'text/javascript' }).end(bundled)
    else if (path !== '/') outgoing.writeHead(404).end()
    else {
      outgoing.writeHead(200, { 'content-type': 'text/html', ...headers })
      outgoing.end(`<!doctype html><title>Shop</title><script src="/shop.js"></script>${body}`)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
