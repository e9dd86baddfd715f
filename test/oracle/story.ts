// What happened, in order, so that a failure can be told: bounded, the newest are kept.

export interface Story {
  note(who: string, what: string): void
  /** The last lines of these tellers, of all without a list. */
  last(count: number, who?: string[]): string[]
  /** What must never happen, as it was found. */
  wrong(what: string): void
  wrongs: string[]
}

const kept = 5_000
const mostWrongs = 50

export function createStory(): Story {
  const began = performance.now()
  let lines: { who: string; text: string }[] = []
  const wrongs: string[] = []
  const at = () => ((performance.now() - began) / 1000).toFixed(2).padStart(7)

  function note(who: string, what: string) {
    lines.push({ who, text: `${at()} ${who}: ${what}` })
    if (lines.length > 2 * kept) lines = lines.slice(-kept)
  }

  return {
    note,
    last: (count, who) =>
      lines
        .filter((line) => !who || who.includes(line.who))
        .slice(-count)
        .map((line) => line.text),
    wrong(what) {
      note('wrong', what)
      if (wrongs.length < mostWrongs) wrongs.push(`${at()} ${what}`)
    },
    wrongs,
  }
}
