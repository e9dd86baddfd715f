// What support needs of a test: somewhere to register its own end. A TestContext is one; `npm run soak` makes one.

export interface Scope {
  after(work: () => unknown): void
}

/** A scope of its own; `end` undoes in the opposite order, and goes on when something fails. */
export function createScope(): Scope & { end(): Promise<void> } {
  const works: (() => unknown)[] = []
  return {
    after: (work) => void works.push(work),
    async end() {
      for (const work of works.splice(0).reverse()) {
        try {
          await work()
        } catch (error) {
          console.error(error)
        }
      }
    },
  }
}
