// JSON lines on standard error: a constant dotted name, the data beside it. Never bodies, keys or tokens.

export const logLevels = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof logLevels)[number]

export type Log = Record<LogLevel, (name: string, data?: Record<string, unknown>) => void>

export function createLog(least: LogLevel, write: (line: string) => void = (line) => process.stderr.write(line)): Log {
  const at =
    (level: LogLevel) =>
    (name: string, data: Record<string, unknown> = {}) => {
      if (logLevels.indexOf(level) < logLevels.indexOf(least)) return
      write(`${JSON.stringify({ time: new Date().toISOString(), level, name, ...data }, errorsAsText)}\n`)
    }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

function errorsAsText(_key: string, value: unknown): unknown {
  if (!(value instanceof Error)) return typeof value === 'bigint' ? String(value) : value
  return { message: value.message, code: (value as { code?: unknown }).code, stack: value.stack }
}
