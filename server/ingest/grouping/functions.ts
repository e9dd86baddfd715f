// One function has one name, however a runtime, a compiler or a build wrote it. Empty: it has none that means anything.

import type { Frame } from '../frames.ts'
import { textFrom } from '../values.ts'
import { nativeName, withoutRustHash } from './native.ts'

const unknown = new Set(['?', '<anonymous>', '<unknown>', '<redacted>', 'Anonymous function', '<anonymous function>'])

export function functionName(frame: Frame): string {
  const name = frame.function ?? ''
  if (frame.family === 'csharp') return known(textFrom(frame.raw.raw_function, 256) ?? name)
  if (name === '' || unknown.has(name)) return ''
  switch (frame.family) {
    case 'javascript':
      return javascriptName(name)
    case 'ruby':
      return rubyName(name)
    case 'php':
      return phpName(name)
    case 'java':
      return javaName(name)
    case 'native':
      return known(nativeName(name))
    default:
      return withoutRustHash(name)
  }
}

function known(name: string): string {
  return unknown.has(name) ? '' : name
}

const nameless = new Set(['module code', 'global code', 'eval code'])

/** V8 writes `async Foo.bar`, `new Foo`, `Foo.bar [as baz]`; Firefox `setTimeout handler*bar`, `bar/<` for what is inside of bar. */
function javascriptName(full: string): string {
  // Most names are plain, and one look costs less than the eight that follow.
  if (!/[ .*/<?]/.test(full)) return full
  let name = full
  const alias = name.lastIndexOf(' [as ')
  if (alias > 0 && name.endsWith(']')) name = name.slice(0, alias)
  name = name.slice(name.lastIndexOf('*') + 1)
  while (name.startsWith('async ') || name.startsWith('new ')) name = name.slice(name.indexOf(' ') + 1)
  name = name.slice(name.lastIndexOf('.') + 1)
  return unknown.has(name) || nameless.has(name) || name.endsWith('/<') ? '' : name
}

/** `block (2 levels) in checkout` is a block; ERB templates are compiled to `_app_views_x_erb__3385849834_20`. */
function rubyName(name: string): string {
  if (name.startsWith('block ')) return 'block'
  return name.replace(/_{2,3}\d{1,20}_\d{1,20}$/, '')
}

/** `class@anonymous` goes on with a path, a line and a number, `{closure:…:12}` has its line in it. */
function phpName(name: string): string {
  const anonymous = name.indexOf('@anonymous')
  if (anonymous >= 0) {
    const method = name.lastIndexOf('::')
    return name.slice(0, anonymous + '@anonymous'.length) + (method > anonymous ? name.slice(method) : '')
  }
  const closure = name.indexOf('{closure:')
  return closure < 0 ? name : `${name.slice(0, closure)}{closure}`
}

/** The number of a lambda is its place in the file. */
function javaName(name: string): string {
  return name.startsWith('lambda$') ? '' : withoutGenerated(name)
}

// What the JVM and its libraries generate is numbered as it comes.
const generated: [pattern: RegExp, by: string][] = [
  [/\$\$Lambda(?:\$\d{1,20}|\/0x[0-9a-f]{1,20}|\/\d{1,20}){1,3}/, '$$$$Lambda'],
  [/Generated(Method|Constructor|SerializationConstructor)Accessor\d{1,20}/, 'Generated$1Accessor'],
  [/\$\$(\w{0,60}(?:CGLIB|ByGuice))\$\$[0-9a-fA-F]{1,20}(?:_\d{1,20})?/, '$$$$$1'],
  [/\$\$(EnhancerBy|FastClassBy)(\w{1,60})\$\$[0-9a-fA-F]{1,20}(?:_\d{1,20})?/, '$$$$$1$2'],
  [/\$HibernateProxy\$[0-9a-zA-Z]{1,40}/, '$$HibernateProxy'],
  [/_?\$\$_(?:javassist(?:_seam)?_\d{1,20}|jvst[0-9a-f]{1,20}_[0-9a-f]{1,20})/, '$$$$_javassist'],
  [/\$(fn|reify|eval)_{0,2}\d{1,20}/g, '$$$1'],
]

/** Names of classes and methods alike. All that is generated has a dollar sign, but for reflection. */
export function withoutGenerated(name: string): string {
  if (!name.includes('$') && !name.includes('Accessor')) return name
  let clean = name
  for (const [pattern, by] of generated) clean = clean.replace(pattern, by)
  return clean
}
