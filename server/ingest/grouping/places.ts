// Where a function is: its module, else its file's own name, because directories hold versions and deploy dates, and queries
// hold cache busters. What a build puts into names becomes `<hash>`.

import type { Frame } from '../frames.ts'
import { isAlphanumeric, isUpper, looksLikeHash, wordAt } from './characters.ts'
import { withoutGenerated } from './functions.ts'

export function placeOf(frame: Frame): string {
  if (frame.module !== null) {
    return withoutBuildHashes(frame.family === 'java' ? withoutGenerated(frame.module) : frame.module)
  }
  const file = baseName(frame.filename ?? '')
  // A script of a page itself: its address is the page's, which has ids in it.
  if (frame.family === 'javascript' && isUrl(frame.filename) && !/\.[a-z]{1,8}$/i.test(file)) return ''
  return withoutBuildHashes(frame.family === 'javascript' ? withoutBundlerHash(file) : file).toLowerCase()
}

export function isUrl(path: string | null): boolean {
  return path !== null && /^(?:https?|app|capacitor|ionic|file|blob):/i.test(path)
}

function baseName(filename: string): string {
  const query = filename.search(/[?#]/)
  const path = query < 0 ? filename : filename.slice(0, query)
  return path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
}

/** Digests, and dates or numbers of eight digits and more, anywhere in the name. */
function withoutBuildHashes(name: string): string {
  if (!/\d/.test(name)) return name
  let clean = ''
  let copied = 0
  let at = 0
  while (at < name.length) {
    if (!isAlphanumeric(name.charCodeAt(at))) {
      at++
      continue
    }
    const word = wordAt(name, at)
    const isNumber = word.digits === word.end - at && word.digits >= 8
    if (isNumber || looksLikeHash(word, at)) {
      clean += `${name.slice(copied, at)}<hash>`
      copied = word.end
    }
    at = word.end
  }
  return clean + name.slice(copied)
}

/** Vite and Rollup write `index-D_f8aZ0-.js`, esbuild `chunk-ABCD2345.js`: eight characters with a digit or capitals alone. */
function withoutBundlerHash(file: string): string {
  const match = /^(.{1,200}?[-.])([\w-]{8})(\.[a-z.]{2,16})$/.exec(file)
  if (match === null) return file
  const [, name, hash, extension] = match as unknown as [string, string, string, string]
  const capitals = [...hash].filter((char) => isUpper(char.charCodeAt(0))).length
  const isHash = capitals === 8 || (capitals > 0 && /\d/.test(hash))
  return isHash ? `${name}<hash>${extension}` : file
}
