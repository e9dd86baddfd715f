// Retries an assertion until it holds, or throws what it threw last.

export async function eventually<T>(assertion: () => T | Promise<T>, patience = 10_000): Promise<T> {
  const end = performance.now() + patience
  for (;;) {
    try {
      return await assertion()
    } catch (error) {
      if (performance.now() > end) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
