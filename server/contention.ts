// Whether several projects send just now: only then have they to be kept from each other's way, which costs throughput.

export interface Contention {
  /** An event of this project came. Clock in milliseconds. */
  seen(projectId: string, now: number): void
  /** Whether two projects or more were seen lately. */
  holds(now: number): boolean
}

export function createContention(within = 2_000): Contention {
  let latest = { project_id: '', at: Number.NEGATIVE_INFINITY }
  /** The last one that was another than the latest. */
  let other = latest
  return {
    seen(projectId, now) {
      if (projectId !== latest.project_id) {
        other = latest
        latest = { project_id: projectId, at: now }
      } else latest.at = now
    },
    holds: (now) => now - other.at < within,
  }
}
