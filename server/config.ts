// The environment, parsed once before anything starts. Each variable stands here with its default and its reason; the
// table in the README lists the same, and a test compares them. A variable that is not in the table is not looked at,
// and an empty one counts as unset, because that is how compose files and CI systems write "not set".

import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { z } from 'zod'
import type { OpenIdConfig } from './access/openid.ts'
import { AppError } from './errors.ts'
import { type LogLevel, logLevels } from './log.ts'

export interface Config {
  host: string
  port: number
  /** Undefined: the embedded PostgreSQL in `dataDir`. */
  databaseUrl: string | undefined
  /** Absolute. */
  dataDir: string
  /** Without a slash at its end. Undefined: made from host and the port that was bound. */
  publicUrl: string | undefined
  /** Addresses and networks. */
  trustedProxies: readonly string[]
  /** Null: sign-in with passwords alone. */
  openId: OpenIdConfig | null
  logLevel: LogLevel
  /** Connections that write events. */
  writers: number
  /** Milliseconds. */
  shutdownTimeout: number
  /** Milliseconds. */
  databaseGrace: number
}

export interface Variable {
  name: string
  /** As the README shows it; empty when there is none. */
  default: string
  description: string
}

/** One row each of the README's table. */
export const variables: readonly Variable[] = [
  {
    name: 'HOST',
    // Nothing is open to the network until somebody says so: the first page has no users yet.
    default: '127.0.0.1',
    description: 'Address to listen on; `0.0.0.0` for all',
  },
  { name: 'PORT', default: '8080', description: 'Port to listen on; 0 takes any free one' },
  {
    name: 'DATABASE_URL',
    default: '',
    description:
      'PostgreSQL 15 or newer (`postgres://user:password@host:5432/name`); unset: an embedded one in `DATA_DIR`',
  },
  { name: 'DATA_DIR', default: './data', description: 'Where the embedded PostgreSQL and `first-start.json` live' },
  {
    name: 'PUBLIC_URL',
    default: '',
    description: 'Address that browsers and SDKs use, behind a proxy say; unset: `http://HOST:PORT`',
  },
  {
    name: 'TRUSTED_PROXIES',
    // Nobody: a stranger could give himself any address.
    default: '',
    description:
      'Proxies whose `X-Forwarded-For` names the client, as addresses and networks (`10.0.0.0/8,192.0.2.1`); unset: none',
  },
  {
    name: 'OPENID_ISSUER',
    default: '',
    description:
      'Address of an OpenID Connect provider to sign in with; its callback is `PUBLIC_URL/auth/openid/callback`',
  },
  { name: 'OPENID_CLIENT_ID', default: '', description: 'What the provider knows Mesher as' },
  { name: 'OPENID_CLIENT_SECRET', default: '', description: 'The secret that the provider gave for it' },
  { name: 'OPENID_NAME', default: 'OpenID Connect', description: 'The name of the provider on the sign-in button' },
  {
    name: 'OPENID_DOMAINS',
    // Everybody at a public provider has an account there: nobody comes in who was not named.
    default: '',
    description:
      'Domains, with commas between them, whose verified e-mail addresses become members; unset: only who has an account or an invitation',
  },
  { name: 'LOG_LEVEL', default: 'warn', description: 'Least level that is logged: `debug`, `info`, `warn` or `error`' },
  {
    name: 'WRITERS',
    // Measured on two cores, 1.5 KB events in batches of 250: one 13,600 events/s, two 20,900, three 19,300.
    default: '2',
    description: 'Database connections that write events, 1 to 16',
  },
  {
    name: 'SHUTDOWN_TIMEOUT',
    default: '5',
    description: 'Seconds in which a shutdown must be done, 1 to 300; then the process exits as it is',
  },
  {
    name: 'DATABASE_GRACE',
    // A restart of PostgreSQL takes one to three seconds; SDKs give a request up to 30.
    default: '5',
    description: 'Seconds that incoming events wait while PostgreSQL is away, 0 to 60; then they get 503',
  },
]

const wholeNumber = (least: number, most: number) =>
  z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number)
    .pipe(z.number().min(least).max(most))

const seconds = (least: number, most: number) =>
  z
    .string()
    .regex(/^\d{1,6}(\.\d{1,3})?$/)
    .transform(Number)
    .pipe(z.number().min(least).max(most))
    .transform((value) => Math.round(value * 1000))

const url = (protocols: string[], check: (url: URL) => boolean = () => true) =>
  z.string().refine((text) => {
    if (/\s/.test(text) || !URL.canParse(text)) return false
    const parsed = new URL(text)
    return protocols.includes(parsed.protocol) && check(parsed)
  })

/** 203.0.113.7, 10.0.0.0/8, 2001:db8::/32 */
function isNetwork(entry: string): boolean {
  const [address = '', bits, ...more] = entry.split('/')
  const family = isIP(address)
  if (family === 0 || more.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))
}

const isPlain = (address: URL) => address.search === '' && address.hash === '' && address.username === ''

const shapes = {
  HOST: [z.string().regex(/^[\w.:%-]+$/), 'a host name or an IP address, without a port'],
  PORT: [wholeNumber(0, 65_535), 'a whole number from 0 to 65535'],
  DATABASE_URL: [url(['postgres:', 'postgresql:']), 'an address like postgres://user:password@host:5432/name'],
  DATA_DIR: [z.string().regex(/^[^\0\n]+$/), 'the path of a folder'],
  PUBLIC_URL: [
    url(['http:', 'https:'], isPlain).transform((text) => text.replace(/\/+$/, '')),
    'an address like https://errors.example.com',
  ],
  TRUSTED_PROXIES: [
    z
      .string()
      .transform((text) => text.split(',').map((entry) => entry.trim()))
      .refine((entries) => entries.length <= 1000 && entries.every(isNetwork)),
    'addresses and networks with commas between them, like 10.0.0.0/8,192.0.2.1',
  ],
  OPENID_ISSUER: [url(['http:', 'https:'], isPlain), 'an address like https://login.example.com'],
  OPENID_CLIENT_ID: [z.string().max(500), 'a text of at most 500 characters'],
  OPENID_CLIENT_SECRET: [z.string().max(1000), 'a text of at most 1000 characters'],
  OPENID_NAME: [z.string().max(50), 'a name of at most 50 characters'],
  OPENID_DOMAINS: [
    z
      .string()
      .transform((text) => text.split(',').map((domain) => domain.trim().toLowerCase()))
      .refine((domains) => domains.every((domain) => /^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(domain))),
    'domains like example.com, with commas between them',
  ],
  LOG_LEVEL: [z.enum(logLevels), `one of ${logLevels.join(', ')}`],
  WRITERS: [wholeNumber(1, 16), 'a whole number from 1 to 16'],
  SHUTDOWN_TIMEOUT: [seconds(1, 300), 'a number of seconds from 1 to 300'],
  DATABASE_GRACE: [seconds(0, 60), 'a number of seconds from 0 to 60'],
} as const satisfies Record<string, readonly [z.ZodType, string]>

type Name = keyof typeof shapes
type Value<N extends Name> = z.output<(typeof shapes)[N][0]>

/** Throws one line that names every bad variable, what it is and what it may be. */
export function parseConfig(env: Record<string, string | undefined>): Readonly<Config> {
  const problems: string[] = []

  function read<N extends Name>(name: N): Value<N> | undefined {
    const text = env[name] || variables.find((variable) => variable.name === name)?.default
    if (!text) return undefined
    const [shape, allowed] = shapes[name]
    const result = shape.safeParse(text)
    if (result.success) return result.data as Value<N>
    // The database's address holds a password: it is never repeated, and no secret either.
    const shown =
      name === 'DATABASE_URL' || name === 'OPENID_CLIENT_SECRET' ? 'not valid' : JSON.stringify(text.slice(0, 100))
    problems.push(`${name} is ${shown}, but must be ${allowed}`)
    return undefined
  }

  function readOpenId(): OpenIdConfig | null {
    const issuer = read('OPENID_ISSUER')
    const [clientId, clientSecret] = [read('OPENID_CLIENT_ID'), read('OPENID_CLIENT_SECRET')]
    const [name, domains] = [read('OPENID_NAME') ?? '', read('OPENID_DOMAINS') ?? []]
    if (!issuer) return null
    if (!clientId || !clientSecret)
      problems.push('OPENID_ISSUER needs OPENID_CLIENT_ID and OPENID_CLIENT_SECRET as well')
    return { issuer, clientId: clientId ?? '', clientSecret: clientSecret ?? '', name, domains }
  }

  const config = {
    host: read('HOST'),
    port: read('PORT'),
    databaseUrl: read('DATABASE_URL'),
    dataDir: resolve(read('DATA_DIR') ?? '.'),
    publicUrl: read('PUBLIC_URL'),
    trustedProxies: read('TRUSTED_PROXIES') ?? [],
    openId: readOpenId(),
    logLevel: read('LOG_LEVEL'),
    writers: read('WRITERS'),
    shutdownTimeout: read('SHUTDOWN_TIMEOUT'),
    databaseGrace: read('DATABASE_GRACE'),
  }
  if (problems.length > 0) throw new AppError('bad_request', problems.join('; '))
  // Without problems, what has a default has a value.
  return Object.freeze(config as Config)
}
