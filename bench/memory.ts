// What one idle stream socket costs the server: its resident memory with many of them, less that with half of them, by the
// difference. What the first thousands make the server load, compile and set aside for young objects is not theirs.

import { readFile } from 'node:fs/promises'
import { openDashboards } from './dashboards.ts'
import { type Bench, rounded } from './figure.ts'
import { startServer } from './server.ts'

export const memorySocket: Bench = async (context) => {
  const sockets = context.smoke ? 200 : 6_000
  const server = await startServer(context, await context.database({ migrated: false }))
  const open = (count: number) =>
    openDashboards(context, {
      url: `ws://127.0.0.1:${server.port}/stream/projects/${server.project_id}?sample=false`,
      headers: { authorization: `Bearer ${server.token}` },
      sockets: count,
    })
  await open(sockets)
  const before = await restingMemory(server.pid)
  await open(sockets)
  const after = await restingMemory(server.pid)
  return {
    value: Math.round((after - before) / sockets),
    unit: 'bytes',
    sockets,
    rss_before_mb: rounded(before / 2 ** 20, 1),
    rss_after_mb: rounded(after / 2 ** 20, 1),
  }
}

/** The least of three seconds: garbage of the handshakes comes and goes. */
async function restingMemory(pid: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let n = 0; n < 6; n++) {
    await new Promise((resolve) => setTimeout(resolve, 500))
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    least = Math.min(least, Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024)
  }
  return least
}
