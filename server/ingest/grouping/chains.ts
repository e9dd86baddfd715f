// Which exceptions of an event count, and which of them is the one that people mean. Without exception groups: all of the
// chain, and the last. A group (AggregateError, ExceptionGroup) is a tree; "Group<[Da, Da, Da]> is just a Da": of one kind
// of leaf only the first counts, with its causes, and the wrapper does not; of several kinds each counts once, and the root.
// As Sentry does it: src/sentry/grouping/strategies/newstyle.py, filter_exceptions_for_exception_groups.

import type { Exception } from '../exceptions.ts'

export interface Chain {
  /** Oldest cause first. */
  counting: Exception[]
  /** The one that names the issue. */
  main: Exception | undefined
}

/** `keyOf` tells two exceptions of one kind. */
export function chainOf(exceptions: Exception[], keyOf: (exception: Exception) => string): Chain {
  const whole: Chain = { counting: exceptions, main: exceptions.at(-1) }
  if (exceptions.length < 2 || !exceptions.some((exception) => exception.is_exception_group)) return whole
  const tree = treeOf(exceptions)
  if (tree === null) return whole
  const kinds = new Map<string, Exception>()
  for (const leaf of leavesOf(tree.root, tree.children)) {
    const key = keyOf(leaf)
    if (!kinds.has(key)) kinds.set(key, leaf)
  }
  if (kinds.size === 0) return whole
  if (kinds.size === 1) {
    const [leaf] = kinds.values() as Iterator<Exception> & Iterable<Exception>
    const path = firstPath(leaf!, tree.children)
    return { counting: exceptions.filter((exception) => path.has(exception)), main: leaf }
  }
  const sorted = [...kinds].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, leaf]) => leaf)
  return { counting: [...sorted, tree.root], main: tree.root }
}

interface Tree {
  root: Exception
  children: Map<Exception, Exception[]>
}

/** Null unless ids and parents make one tree of all exceptions, with the root 0. */
function treeOf(exceptions: Exception[]): Tree | null {
  const byId = new Map<number, Exception>()
  for (const exception of exceptions) {
    if (exception.exception_id === null || byId.has(exception.exception_id)) return null
    byId.set(exception.exception_id, exception)
  }
  const root = byId.get(0)
  if (root === undefined || root.parent_id !== null) return null
  const children = new Map<Exception, Exception[]>()
  // From the last to the first: SDKs list the children of a group after one another, the first of them nearest to the group.
  for (const exception of exceptions.toReversed()) {
    if (exception === root) continue
    const parent = exception.parent_id === null ? undefined : byId.get(exception.parent_id)
    if (parent === undefined) return null
    children.set(parent, [...(children.get(parent) ?? []), exception])
  }
  return countBelow(root, children) === exceptions.length ? { root, children } : null
}

/** Fewer than there are where parents go in a circle. */
function countBelow(root: Exception, children: Map<Exception, Exception[]>): number {
  let count = 0
  const open = [root]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    count++
    open.push(...(children.get(next) ?? []))
  }
  return count
}

/** Below a group its children, and theirs where these are groups; any other exception stands for itself. */
function leavesOf(exception: Exception, children: Map<Exception, Exception[]>): Exception[] {
  if (!exception.is_exception_group) return [exception]
  return (children.get(exception) ?? []).flatMap((child) => leavesOf(child, children))
}

function firstPath(from: Exception, children: Map<Exception, Exception[]>): Set<Exception> {
  const path = new Set<Exception>()
  for (let next: Exception | undefined = from; next !== undefined; next = children.get(next)?.[0]) path.add(next)
  return path
}
