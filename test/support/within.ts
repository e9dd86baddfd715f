// Waits for what should come soon, and names it when it does not: a test that fails tells more than one that hangs.

export async function within<T>(what: string, promise: Promise<T>, patience = 15_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${patience} ms for ${what}`)), patience)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
