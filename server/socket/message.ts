// What a client of the stream says, parsed.

import { ClientMessage, type Ref } from '../protocol.ts'

type Parsed = { message: ClientMessage; ref?: Ref; problem: '' } | { message: null; ref?: Ref; problem: string }

/** Null for what is no JSON object. */
export function parseMessage(bytes: Buffer): Parsed | null {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  const result = ClientMessage.safeParse(value)
  if (result.success) return { message: result.data, ref: result.data.ref, problem: '' }
  const issue = result.error.issues[0]!
  const { ref } = value as { ref?: unknown }
  const where = issue.path.join('.')
  return {
    message: null,
    ref: typeof ref === 'string' || typeof ref === 'number' ? ref : undefined,
    problem: `${where === '' ? 'message' : where}: ${issue.message}`,
  }
}
