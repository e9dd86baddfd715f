// Messages of the stream as lines of a terminal. Text of events is text: no escape sequence and no direction mark of theirs
// reaches the terminal.

import { styleText } from 'node:util'
import type { Level, ServerMessage } from '../protocol.ts'

export interface LineOptions {
  colours: boolean
}

type Style = Parameters<typeof styleText>[0]
const styles: Record<Level, Style> = { fatal: 'magenta', error: 'red', warning: 'yellow', info: 'blue', debug: 'gray' }

/** Null for messages that say nothing to a person. */
export function lineOf(message: ServerMessage, { colours }: LineOptions): string | null {
  const styled = (style: Style, text: string) => (colours ? styleText(style, text, { validateStream: false }) : text)
  switch (message.type) {
    case 'event': {
      const { level, title, culprit, environment, release, received_at } = message.data
      const where = [culprit, environment, release].filter((part) => part !== null).map(plain)
      const rest = where.length > 0 ? styled('gray', `  ${where.join('  ')}`) : ''
      return `${clock(received_at)} ${styled(styles[level], level.padEnd(7))} ${plain(title)}${rest}`
    }
    case 'issue': {
      const { action, issue_id, actor, issue } = message
      const name = issue ? `${plain(issue.short_id)} ${plain(issue.title)}` : `issue ${issue_id}`
      return `${clock(issue?.status_changed_at)} ${styled('cyan', 'issue  ')} ${name} ${styled('bold', action)} by ${plain(actor)}`
    }
    case 'issue_count':
      return `${clock()} ${styled('gray', 'count  ')} ${message.count} unresolved`
    case 'rate':
      return message.shown < message.events
        ? `${clock()} ${styled('gray', 'rate   ')} ${message.shown} of ${message.events} events of the last second shown`
        : null
    case 'resync':
      return `${clock()} ${styled('yellow', 'resync ')} more changed than is told one by one (${message.reason})`
    default:
      return null
  }
}

/** Control characters, and marks that turn the direction of text, become spaces. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]+/g, ' ')
}

function clock(iso = new Date().toISOString()): string {
  return new Date(iso).toTimeString().slice(0, 8)
}
