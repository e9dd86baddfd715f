// Names of C++, Rust, Swift and Objective-C functions without what varies with arguments: `void foo::bar<int>(char const*)`
// is `foo::bar`. One pass, brackets counted.

const colon = 0x3a
const less = 0x3c
const openParen = 0x28
const space = 0x20

export function nativeName(full: string): string {
  const name = withoutRustHash(full)
  // -[Foo bar:baz:] and its blocks are whole names.
  if (name.includes('-[') || name.includes('+[')) return name
  return withoutReturnType(withoutBrackets(name))
}

export function withoutRustHash(name: string): string {
  return name.replace(/::h[0-9a-f]{16}$/, '')
}

/** Drops `<…>` and `(…)`, but keeps a bracket that stands where a name should: `(anonymous namespace)::x`, `<T as U>::x`. */
function withoutBrackets(name: string): string {
  let kept = ''
  let from = 0
  let at = 0
  while (at < name.length) {
    const code = name.charCodeAt(at)
    if (code !== less && code !== openParen) {
      at++
      continue
    }
    if (name.startsWith('operator', at - 8)) {
      at = operatorEnd(name, at)
      continue
    }
    const end = bracketEnd(name, at)
    const before = name.charCodeAt(at - 1)
    if (at === 0 || before === colon || before === space) at = end
    else {
      kept += name.slice(from, at)
      // What follows the parameters (const, -> type, a clone's number) is no part of the name, unless the name goes on.
      if (code === openParen && !name.startsWith('::', end)) return kept
      at = from = end
    }
  }
  return kept + name.slice(from)
}

/** Behind `<<`, `<=>` or `()` of an operator. */
function operatorEnd(name: string, at: number): number {
  if (name.charCodeAt(at) === openParen) return name.startsWith('()', at) ? at + 2 : at + 1
  let end = at
  while (end - at < 3 && '<=>'.includes(name.charAt(end)) && end < name.length) end++
  return end
}

/** Behind the bracket that closes the one at `at`; the end where none does. */
function bracketEnd(name: string, at: number): number {
  let depth = 0
  for (let end = at; end < name.length; end++) {
    const char = name[end]
    if (char === '<' || char === '(') depth++
    else if (char === ')' || (char === '>' && name[end - 1] !== '-')) depth--
    if (depth === 0) return end + 1
  }
  return name.length
}

/** `void foo` is `foo`; Swift's `closure #1 in foo` and C++'s `operator bool` are names with spaces. */
function withoutReturnType(name: string): string {
  const text = name.trim()
  if (text.includes('operator') || text.includes(' in ') || text.includes('(') || text.includes('<')) return text
  return text.slice(text.lastIndexOf(' ') + 1)
}
