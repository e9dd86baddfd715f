// Filters are topics: an event is published to the four topics that may be subscribed for it, and a socket subscribes to
// the ones that its filters mean, which never overlap. So fan-out happens once, in native code. The part after `e/` is
// level and environment, `*` stands for any; an environment is prefixed with `=`, so that none is mistaken for `*`.

import type { Filters, Level } from '../protocol.ts'

/** issue, issue_count, alert, mark, gap and resync of a project. */
export const projectTopic = (projectId: string): string => `p/${projectId}`

/** `rate` of a project, for subscribers that are shown samples. */
export const rateTopic = (projectId: string): string => `p/${projectId}/rate`

/** `e` for subscribers that are shown samples in a storm, `all` for those that are not. */
export type Family = 'e' | 'all'

const eventTopic = (projectId: string, family: Family, level: string, environment: string) =>
  `p/${projectId}/${family}/${level}/${environment}`

export function topicsOfEvent(projectId: string, family: Family, level: Level, environment: string | null): string[] {
  const topic = (...names: [string, string]) => eventTopic(projectId, family, ...names)
  const any = [topic('*', '*'), topic(level, '*')]
  return environment === null ? any : [...any, topic('*', `=${environment}`), topic(level, `=${environment}`)]
}

export function topicsOfFilters(projectId: string, family: Family, filters: Filters): string[] {
  const levels = filters.level.length > 0 ? [...new Set(filters.level)] : ['*']
  const environments =
    filters.environment.length > 0 ? [...new Set(filters.environment)].map((name) => `=${name}`) : ['*']
  return levels.flatMap((level) => environments.map((environment) => eventTopic(projectId, family, level, environment)))
}

/** The same question without topics, for messages that go to one socket. */
export function matches(filters: Filters, level: Level, environment: string | null): boolean {
  if (filters.level.length > 0 && !filters.level.includes(level)) return false
  return filters.environment.length === 0 || (environment !== null && filters.environment.includes(environment))
}
