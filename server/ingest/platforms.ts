// Platforms by how their stacks are read. A frame's own platform counts before that of its event; an event that names none
// is known by the extension of its files.

export type Family = 'javascript' | 'python' | 'php' | 'ruby' | 'java' | 'csharp' | 'native' | 'other'

const families = new Map<string, Family>([
  ['javascript', 'javascript'],
  ['node', 'javascript'],
  ['bun', 'javascript'],
  ['deno', 'javascript'],
  ['python', 'python'],
  ['php', 'php'],
  ['ruby', 'ruby'],
  ['java', 'java'],
  ['android', 'java'],
  ['kotlin', 'java'],
  ['csharp', 'csharp'],
  ['native', 'native'],
  ['cocoa', 'native'],
  ['objc', 'native'],
  ['swift', 'native'],
  ['c', 'native'],
  ['rust', 'native'],
])

const extensions = new Map<string, Family>([
  ['js', 'javascript'],
  ['mjs', 'javascript'],
  ['cjs', 'javascript'],
  ['jsx', 'javascript'],
  ['ts', 'javascript'],
  ['mts', 'javascript'],
  ['cts', 'javascript'],
  ['tsx', 'javascript'],
  ['vue', 'javascript'],
  ['svelte', 'javascript'],
  ['py', 'python'],
  ['php', 'php'],
  ['rb', 'ruby'],
  ['erb', 'ruby'],
  ['java', 'java'],
  ['kt', 'java'],
  ['cs', 'csharp'],
])

export function familyOf(platform: string | null, filename: string | null): Family {
  if (platform !== null && platform !== 'other') return families.get(platform) ?? 'other'
  if (filename === null) return 'other'
  return extensions.get(filename.slice(filename.lastIndexOf('.') + 1)) ?? 'other'
}
