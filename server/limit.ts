// At most `most` of something at once; the others wait in line.

export function createLimit(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  const line: (() => void)[] = []
  let running = 0
  return async (work) => {
    if (running < most) running += 1
    else await new Promise<void>((resolve) => line.push(resolve))
    try {
      return await work()
    } finally {
      // A place is handed on, so that nobody who comes now takes it before the next in line.
      const next = line.shift()
      if (next) next()
      else running -= 1
    }
  }
}
