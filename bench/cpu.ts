// How much processor time was taken, for Linux: beside a rate it tells who used the machine's cores up.

import { readdirSync, readFileSync } from 'node:fs'

/** The unit of /proc/<pid>/stat on every architecture: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html */
const microsecondsPerTick = 10_000

/** Who takes time, by name. */
export type Consumers = Record<string, () => number>

/** Starts to count; what it returns tells the microseconds that each took for one of so many units. */
export function startMeter(consumers: Consumers): (units: number) => Record<string, number> {
  const before = Object.entries(consumers).map(([name, read]) => ({ name, read, at: read() }))
  return (units) =>
    Object.fromEntries(before.map(({ name, read, at }) => [name, Math.round((10 * (read() - at)) / units) / 10]))
}

interface Stat {
  parent: number
  /** Of its own, all threads. */
  ticks: number
  /** Of children that have ended. */
  ofChildren: number
}

/** Microseconds that a process has taken; 0 where it cannot be told. */
export function cpuOf(pid: number): number {
  return (statOf(pid)?.ticks ?? 0) * microsecondsPerTick
}

/** Of all that belongs to the postmaster of a backend. */
export function cpuOfPostgres(backend: number): number {
  const postmaster = statOf(backend)?.parent
  if (postmaster === undefined) return 0
  const own = statOf(postmaster)
  let ticks = (own?.ticks ?? 0) + (own?.ofChildren ?? 0)
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? statOf(Number(name)) : null
    if (stat?.parent === postmaster) ticks += stat.ticks
  }
  return ticks * microsecondsPerTick
}

function statOf(pid: number): Stat | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name, in brackets, may hold anything; the third field follows it.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const at = (field: number) => Number(fields[field - 3])
    return { parent: at(4), ticks: at(14) + at(15), ofChildren: at(16) + at(17) }
  } catch {
    return null
  }
}
