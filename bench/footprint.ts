// What a user meets first: `npm start` as it is typed, on a data directory of its own, until an event is accepted, and what
// it then holds of memory that nobody shares.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FirstStartFacts } from '../server/first-start.ts'
import { type Bench, type Context, rounded } from './figure.ts'

interface Started {
  /** Of npm, the shell and node: all that is not PostgreSQL. */
  pids: number[]
  postmaster: number
  /** Milliseconds from the command to the answer 202. */
  took: number
  stop(): Promise<void>
}

const port = () => 10_240 + Math.floor(Math.random() * 20_000)

async function start(dataDir: string): Promise<Started> {
  const url = `http://127.0.0.1:${port()}`
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, DATA_DIR: dataDir, PORT: new URL(url).port }
  const began = performance.now()
  const npm = spawn('npm', ['start'], { stdio: ['ignore', 'ignore', 'inherit'], env })
  while (!(await accepts(url, dataDir))) {
    if (npm.exitCode !== null) throw new Error(`npm start ended with ${npm.exitCode}`)
    await pause(10)
  }
  const took = performance.now() - began
  const postmaster = Number((await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0])
  const children = await childrenOf()
  const below = (pid: number): number[] => [pid, ...(children.get(pid) ?? []).flatMap(below)]
  const pids = below(npm.pid!).filter((pid) => !below(postmaster).includes(pid))
  return { pids, postmaster, took, stop: () => stop(npm, pids.at(-1)!) }
}

async function accepts(url: string, dataDir: string): Promise<boolean> {
  const text = await readFile(join(dataDir, 'first-start.json'), 'utf8').catch(() => null)
  if (text === null) return false
  const { dsn } = JSON.parse(text) as FirstStartFacts
  const headers = { authorization: `Bearer ${new URL(dsn).username}` }
  const body = JSON.stringify({ message: 'the first event' })
  const answer = await fetch(`${url}/api/v1/events`, { method: 'POST', headers, body }).catch(() => null)
  await answer?.arrayBuffer()
  return answer?.status === 202
}

/** The server itself is told: a shell between npm and it would not pass a signal on. */
async function stop(npm: ChildProcess, server: number): Promise<void> {
  const gone = new Promise((resolve) => npm.once('exit', resolve))
  process.kill(server, 'SIGTERM')
  await gone
}

async function childrenOf(): Promise<Map<number, number[]>> {
  const children = new Map<number, number[]>()
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
    children.set(parent, [...(children.get(parent) ?? []), Number(name)])
  }
  return children
}

async function privateMemory(pids: number[]): Promise<number> {
  let bytes = 0
  for (const pid of pids) {
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
    for (const [, kilobytes] of rollup.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB/gm))
      bytes += Number(kilobytes) * 1024
  }
  return bytes
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))

async function onDataDirectory<T>(work: (dataDir: string) => Promise<T>): Promise<T> {
  const dataDir = await mkdtemp(join(tmpdir(), 'mesher-bench-start-'))
  try {
    return await work(dataDir)
  } finally {
    // PostgreSQL's own folder may lie elsewhere, with a link to it here (server/postgres/place.ts).
    await rm(await realpath(join(dataDir, 'postgres')), { recursive: true, force: true })
    await rm(dataDir, { recursive: true, force: true })
  }
}

export const startFresh: Bench = async ({ smoke }: Context) => {
  const times: number[] = []
  for (let n = 0; n < (smoke ? 1 : 3); n++) {
    await onDataDirectory(async (dataDir) => {
      const running = await start(dataDir)
      times.push(running.took)
      await running.stop()
    })
  }
  return startFigure(times)
}

export const startUsed: Bench = async ({ smoke }) =>
  onDataDirectory(async (dataDir) => {
    await (await start(dataDir)).stop()
    const times: number[] = []
    for (let n = 0; n < (smoke ? 1 : 5); n++) {
      const running = await start(dataDir)
      times.push(running.took)
      await running.stop()
    }
    return startFigure(times)
  })

/** The median: what else the machine does is part of how it feels. */
function startFigure(times: number[]) {
  const seconds = times.map((time) => rounded(time / 1000, 2)).sort((a, b) => a - b)
  return {
    value: seconds[seconds.length >> 1]!,
    unit: 's',
    least: seconds[0]!,
    most: seconds.at(-1)!,
    rounds: times.length,
  }
}

const footprint =
  (pidsOf: (running: Started) => Promise<number[]>): Bench =>
  ({ smoke }) =>
    onDataDirectory(async (dataDir) => {
      const running = await start(dataDir)
      let least = Number.POSITIVE_INFINITY
      let processes = 0
      for (let n = 0; n < (smoke ? 1 : 20); n++) {
        await pause(500)
        const pids = await pidsOf(running)
        processes = pids.length
        least = Math.min(least, await privateMemory(pids))
      }
      await running.stop()
      return { value: rounded(least / 2 ** 20, 1), unit: 'MB', processes }
    })

export const footprintNode = footprint(async ({ pids }) => pids)
export const footprintPostgres = footprint(async ({ postmaster }) => [
  postmaster,
  ...((await childrenOf()).get(postmaster) ?? []),
])
