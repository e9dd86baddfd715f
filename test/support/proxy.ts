// Stands between a server under test and PostgreSQL, and breaks the connections of one application_name: as a network
// does, not as a database that says goodbye.

import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { startAppOn, type TestAppOptions } from './app.ts'
import { createDatabase, firstStart } from './database.ts'
import type { Scope } from './scope.ts'

export interface DatabaseProxy {
  /** The database's URL, through the proxy. */
  url: string
  /** Open connections of that name. */
  count(name: string): number
  /** Present connections stay open and carry nothing any more, not even their end; new ones work. */
  swallow(name: string): void
  /** Ends present connections, and every new one until `allow`. */
  refuse(name: string): void
  allow(name: string): void
  /** Keeps PostgreSQL's answers back until `release`. */
  hold(name: string): void
  release(name: string): void
}

interface Link {
  name: string
  client: Socket
  database: Socket
  swallowed: boolean
  kept: Buffer[]
}

export async function createProxy(t: Scope, databaseUrl: string): Promise<DatabaseProxy> {
  const target = new URL(databaseUrl)
  const links = new Set<Link>()
  const refused = new Set<string>()
  const held = new Set<string>()

  const server = createServer((client) => {
    client.on('error', () => {})
    client.once('data', (startup) => open(client, startup))
  })

  function open(client: Socket, startup: Buffer) {
    const name = /application_name\0([^\0]*)\0/.exec(startup.toString('latin1'))?.[1] ?? ''
    if (refused.has(name)) return client.destroy()
    const database = connect(Number(target.port || 5432), target.hostname)
    const link: Link = { name, client, database, swallowed: false, kept: [] }
    links.add(link)
    database.on('error', () => {})
    database.write(startup)
    client.on('data', (bytes) => {
      if (!link.swallowed) database.write(bytes)
    })
    database.on('data', (bytes) => {
      if (link.swallowed) return
      if (held.has(name)) link.kept.push(bytes)
      else client.write(bytes)
    })
    // Who is swallowed does not hear of the other's end either.
    client.on('close', () => {
      if (!link.swallowed) database.destroy()
    })
    database.on('close', () => {
      links.delete(link)
      if (!link.swallowed) client.end()
    })
  }

  const named = (name: string) => [...links].filter((link) => link.name === name)

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    for (const { client, database } of links) {
      client.destroy()
      database.destroy()
    }
  })
  const url = new URL(databaseUrl)
  url.hostname = '127.0.0.1'
  url.port = String((server.address() as AddressInfo).port)
  return {
    url: url.href,
    count: (name) => named(name).length,
    swallow(name) {
      for (const link of named(name)) link.swallowed = true
    },
    refuse(name) {
      refused.add(name)
      for (const { client, database } of named(name)) {
        client.destroy()
        database.destroy()
      }
    },
    allow: (name) => void refused.delete(name),
    hold: (name) => void held.add(name),
    release(name) {
      held.delete(name)
      for (const link of named(name)) for (const bytes of link.kept.splice(0)) link.client.write(bytes)
    },
  }
}

/** A server whose every connection goes through a proxy, and the database as it is without. */
export async function startBehindProxy(t: TestContext, options: TestAppOptions = {}) {
  const database = await createDatabase(t)
  const first = await firstStart(database)
  const proxy = await createProxy(t, database.url)
  const server = await startAppOn(t, { ...database, url: proxy.url }, first, options)
  return { server, database, proxy }
}
