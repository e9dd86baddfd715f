// The port of an embedded PostgreSQL is chosen once and kept, so that the address of the database stays the same. Below
// 32768, where Linux begins to lend ports to outgoing connections: a lent one could be taken while PostgreSQL restarts.

import { randomBytes, randomInt } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'

export async function readPort(file: string): Promise<number | undefined> {
  const port = Number(await readFile(file, 'utf8').catch(() => ''))
  return port > 0 && port < 65_536 ? port : undefined
}

export async function choosePort(file: string): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000)
    if (!(await isFree(port))) continue
    const draft = `${file}-${randomBytes(8).toString('hex')}`
    await writeFile(draft, `${port}\n`, { flag: 'wx' })
    await rename(draft, file)
    return port
  }
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const probe = createServer()
    probe.once('error', () => done(false))
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => done(true)))
  })
}
