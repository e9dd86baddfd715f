// The log of a server under test: kept, so that tests can wait for named moments.

import { createLog, type Log, type LogLevel } from '../../server/log.ts'

export interface LogLine {
  level: LogLevel
  name: string
  [data: string]: unknown
}

export interface TestLog extends Log {
  lines: LogLine[]
  /** Resolves with the first line of that name from now on. */
  next(name: string): Promise<LogLine>
}

export function createTestLog(): TestLog {
  const lines: LogLine[] = []
  const waiting: { name: string; resolve(line: LogLine): void }[] = []
  const log = createLog('debug', (text) => {
    const line = JSON.parse(text) as LogLine
    lines.push(line)
    for (const one of waiting.filter((one) => one.name === line.name)) {
      waiting.splice(waiting.indexOf(one), 1)
      one.resolve(line)
    }
  })
  return { ...log, lines, next: (name) => new Promise((resolve) => waiting.push({ name, resolve })) }
}
