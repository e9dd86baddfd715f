// Which issue an event belongs to; pure. First of: the client's fingerprint, the chain of exceptions by their types and
// stacks, or types and parameterised values, a bare stack, a CSP report, the parameterised message. Never part of it: level,
// environment, release, tags, user, server, line numbers, absolute paths, ids.

import { hash } from 'node:crypto'
import type { Exception } from '../exceptions.ts'
import { type Chain, chainOf } from './chains.ts'
import { type Components, componentsOf, exceptionParts, type Said } from './components.ts'
import { byDefault, fingerprintFrom, type Place } from './fingerprint.ts'

/**
 * The name of these rules, kept with every hash. Rules that give any event another hash need another name, and for a while
 * both: see ARCHITECTURE, "Grouping".
 */
export const groupingAlgo = 'g1'

export interface Grouping {
  /** 32 lower-case hex each: the first that a project knows names the issue. Never empty. */
  hashes: string[]
  /** JSON text of what each of the hashes is of. */
  components: string[]
  grouping_algo: string
}

export interface Grouped extends Said, Place {
  /** As sent. */
  fingerprint: unknown
}

export type Tree = Components | ['fp', ...string[]] | ['mix', ...(string | Components)[]]

/** The exceptions that count, and the one that names the issue. */
export function countingOf(exceptions: Exception[]): Chain {
  return chainOf(exceptions, (exception) => JSON.stringify(exceptionParts(exception).app))
}

export function groupingOf(event: Grouped): Grouping {
  const components = treesOf(event).map((tree) => JSON.stringify(tree))
  if (components[1] === components[0]) components.pop()
  return { hashes: components.map(hashOf), components, grouping_algo: groupingAlgo }
}

function treesOf(event: Grouped): Tree[] {
  const parts = fingerprintFrom(event.fingerprint, event)
  if (parts !== null && !parts.includes(byDefault)) return [['fp', ...(parts as string[])]]
  const { app, system } = componentsOf(event)
  const variants = app === system ? [app] : [app, system]
  if (parts === null) return variants
  return variants.map((variant) => ['mix', ...parts.map((part) => (part === byDefault ? variant : part))] as Tree)
}

function hashOf(text: string): string {
  return hash('sha256', text, 'hex').slice(0, 32)
}
