// A service is a part with a life. `start` resolves when the part really works and rejects fast the first time; `stop`
// may be called at any time, more than once, and resolves when nothing of the part is left running.

import type { Log } from './log.ts'

export interface Service {
  name: string
  start(): Promise<void>
  stop(): Promise<void>
}

/** Several services as one: started left to right, stopped right to left; a failed start stops what had started. */
export function services(parts: Service[], log: Log): Service {
  let stopping: Promise<void> | undefined
  const started: Service[] = []
  async function stopAll() {
    for (const part of started.reverse()) {
      try {
        await part.stop()
      } catch (error) {
        log.error('service.stop_failed', { service: part.name, error })
      }
    }
  }
  const stop = () => {
    stopping ??= stopAll()
    return stopping
  }
  return {
    name: 'services',
    async start() {
      for (const part of parts) {
        started.push(part)
        try {
          await part.start()
        } catch (error) {
          await stop()
          throw error
        }
      }
    },
    stop,
  }
}
