// Bytes -> the one strict form of an event that the rest of the server knows, in this order:
//   parsed (json.ts, bounded) -> legacy names -> scrubbed (scrub.ts), so that nothing after it sees a secret
//   -> normalised in place (normalise.ts) -> title, tags, group.
// Wrong-typed known fields are dropped and noted, unknown ones stay in the payload; an event is refused only when it cannot be
// stored (not a JSON object, too deep, too large) or, at Mesher's own doors, when it says nothing. No zod here: this runs
// for every event, and hand-written checks cost a third.

import { randomUUID } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { Level } from '../protocol.ts'
import { cspFrom } from './csp.ts'
import { exceptionsFrom, stackFrom, withoutEchoes } from './exceptions.ts'
import { distFrom, environmentFrom, levelFrom, loggerFrom, releaseFrom } from './fields.ts'
import { crashFrame } from './frames.ts'
import { countingOf, type Grouping, groupingOf } from './grouping/grouping.ts'
import { parseJson } from './json.ts'
import { renameLegacy } from './legacy.ts'
import { messageFrom } from './message.ts'
import { normalise } from './normalise.ts'
import { createScrubber, type Scrubber, standardSettings } from './scrub.ts'
import { type Tag, tagFrom, tagsFrom, userFrom } from './tags.ts'
import { timeFrom } from './time.ts'
import { culpritFrom, titleFrom } from './title.ts'
import { cut, eventIdFrom, type JsonObject, objectFrom, textFrom } from './values.ts'

export interface Event extends Grouping {
  /** 32 lower-case hex. */
  id: string
  /** Milliseconds, the server's clock. */
  received_at: number
  /** Milliseconds with microseconds as a fraction; within 30 days before and a minute after received_at. */
  timestamp: number
  level: Level
  environment: string | null
  release: string | null
  platform: string
  title: string
  culprit: string | null
  /** The formatted message; where there is none, the value of the exception. */
  message: string | null
  transaction: string | null
  server_name: string | null
  /** With its kind: `id:42`, `username:…`, `email:…`, `ip:…`. */
  user: string | null
  tags: Tag[]
  /** JSON text in UTF-8 without NUL and lone surrogates: the client's own bytes where nothing had to be changed. */
  payload: Buffer
}

/** Whoever sent the request, which is not who had the error when that is a server's SDK. */
export interface Sender {
  /** Null when unknown. */
  client_ip: string | null
  /** Empty when unknown. */
  user_agent: string
}

export interface EventContext extends Partial<Sender> {
  received_at: number
  /** The envelope's, which wins over the payload's. */
  event_id?: string | null
  /** The envelope's, in milliseconds. */
  sent_at?: number | null
  /** The envelope's, for payloads without one. */
  sdk_name?: string | null
  /** Mesher's doors refuse an event that says nothing; Sentry's store it as "<unlabeled event>". */
  must_say_something?: boolean
  /** Of the project; the standard one where there is none. */
  scrubber?: Scrubber
}

const standard = createScrubber(standardSettings)

export function parseEvent(bytes: Buffer, context: EventContext): Event {
  const { value, text } = parseJson(bytes)
  const event = objectFrom(value)
  if (event === null) throw new AppError('bad_request', 'An event is one JSON object, for example {"message":"text"}.')
  const scrubber = context.scrubber ?? standard
  const client_ip = scrubber.hidesAddresses ? null : (context.client_ip ?? null)

  const renamed = renameLegacy(event)
  const scrubbed = scrubber.scrub(event)
  const edit = normalise(event, { received_at: context.received_at, sent_at: context.sent_at ?? null, client_ip })
  const isAsSent = !renamed && !scrubbed && !edit.changed

  const message = messageFrom(event)
  const exceptions = withoutEchoes(exceptionsFrom(event), message !== null)
  const stack = exceptions.length > 0 ? [] : stackFrom(event)
  const csp = cspFrom(event)
  const isSilent = message === null && exceptions.length === 0 && stack.length === 0 && csp === null
  if (context.must_say_something && isSilent) {
    throw new AppError(
      'unprocessable',
      'The event says nothing: give it a "message", "logentry", "exception" or "threads".',
    )
  }
  const { counting, main } = countingOf(exceptions)
  const transaction = textFrom(event.transaction, 200) ?? textFrom(event.culprit, 200)
  const platform = textFrom(event.platform, 64) ?? 'other'
  const level = levelFrom(event.level) ?? 'error'
  const environment = environmentFrom(event.environment) ?? environmentFrom(tagFrom(event, 'environment'))
  const release = releaseFrom(event.release)
  const server_name = textFrom(event.server_name, 256)
  const logger = loggerFrom(event.logger)
  const url = urlFrom(event)
  const user = userFrom(event)
  // Of an uncaught error with causes, @sentry/browser 11 marks the first cause as unhandled, and the error itself as handled.
  const mechanism =
    exceptions.findLast((exception) => exception.handled === false) ??
    exceptions.findLast((exception) => exception.mechanism !== null || exception.handled !== null)

  const tags = tagsFrom(event, context.user_agent ?? '', [
    ['level', level],
    ['environment', environment],
    ['release', release],
    ['dist', distFrom(event.dist)],
    ['server_name', server_name],
    ['transaction', transaction],
    ['logger', logger],
    ['handled', handledText(mechanism?.handled)],
    ['mechanism', mechanism?.mechanism ?? null],
    ['url', url],
    ['sdk.name', textFrom(objectFrom(event.sdk)?.name, 200) ?? context.sdk_name ?? null],
    ['user', user],
  ])

  return {
    id: context.event_id ?? eventIdFrom(event.event_id) ?? randomUUID().replaceAll('-', ''),
    received_at: context.received_at,
    timestamp: timeFrom(event.timestamp) ?? context.received_at,
    level,
    environment,
    release,
    platform,
    title: titleFrom(main, csp, message, stack),
    culprit: culpritFrom({ transaction, url }, main, stack),
    message: shortened(message?.text ?? main?.value ?? null),
    transaction,
    server_name,
    user,
    ...groupingOf({
      fingerprint: event.fingerprint,
      exceptions: counting,
      stack,
      csp,
      message,
      logger,
      transaction,
      level,
      main,
      crash: crashFrame(main?.frames ?? stack),
      tag: (key) => tags.find(([name]) => name === key)?.[1] ?? null,
    }),
    tags,
    payload: isAsSent ? text : Buffer.from(JSON.stringify(event)),
  }
}

/** Without query and fragment: those hold ids and secrets. */
function urlFrom(event: JsonObject): string | null {
  const request = objectFrom(event.request)
  return textFrom(textFrom(request?.url, 2048)?.replace(/[?#].*$/s, ''), 200)
}

function handledText(handled: boolean | null | undefined): string | null {
  return handled === undefined || handled === null ? null : handled ? 'yes' : 'no'
}

function shortened(text: string | null): string | null {
  return text === null ? null : cut(text, 1024)
}
