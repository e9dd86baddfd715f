// The doors for HTTP: bodies, encodings and credentials that are almost right, and captured requests that are damaged.

import { parseEnvelope } from '../../server/ingest/envelope.ts'
import type { TestApp } from '../support/app.ts'
import type { Random } from '../support/random.ts'
import type { Scope } from '../support/scope.ts'
import { asker, printable, requestBytes } from './asker.ts'
import type { Target } from './cases.ts'
import { createDamages } from './damaged.ts'
import {
  arrayBytes,
  credentialText,
  encodedBytes,
  envelopeBytes,
  eventBytes,
  reportBytes,
  storeBytes,
} from './generate.ts'
import { acceptedBy, type Door } from './shapes.ts'

const damages = createDamages()
/** The key of the fixtures and of what is generated. */
const capturedKey = '0123456789abcdef0123456789abcdef'

export function doorTarget(t: Scope, server: TestApp, accepted: Set<string>): Target {
  const ask = asker(t, server)
  const paths: Record<Door, string> = {
    envelope: `/api/${server.project_id}/envelope/`,
    store: `/api/${server.project_id}/store/`,
    events: '/api/v1/events',
    bulk: '/api/v1/events/bulk',
    security: `/api/${server.project_id}/security/`,
    tunnel: '/tunnel',
  }
  const bodies: Record<Door, (random: Random) => Buffer> = {
    envelope: envelopeBytes,
    store: storeBytes,
    events: eventBytes,
    bulk: arrayBytes,
    security: reportBytes,
    tunnel: (random) => named(envelopeBytes(random)),
  }
  const named = (bytes: Buffer) =>
    Buffer.from(bytes.toString('latin1').replaceAll(`${capturedKey}@`, `${server.public_key}@`), 'latin1')
  return async (random) => {
    const door = random.pick(Object.keys(paths) as Door[])
    const body = bodies[door](random)
    const packed = random.below(4) === 0 ? encodedBytes(random, body) : { bytes: body, encoding: '' }
    const headers = packed.encoding === '' ? [] : [`content-encoding: ${packed.encoding}`]
    if (random.below(10) === 0) headers.push(`x-sentry-auth: ${printable(credentialText(random))}`)
    if (random.below(20) === 0) headers.push(`authorization: ${printable(credentialText(random))}`)
    const key = random.below(12) === 0 ? printable(credentialText(random)) : `sentry_key=${server.public_key}`
    const answer = await ask(requestBytes('POST', `${paths[door]}?${key}`, headers, packed.bytes))
    const ids = acceptedBy(door, answer)
    // An envelope without an event is answered with its id, too; what a broken encoding turned it into is not known.
    if (door === 'envelope' || door === 'tunnel') {
      if (ids.length > 0 && packed.encoding === '' && holdsEvent(body)) accepted.add(ids[0]!)
    } else for (const id of ids) accepted.add(id)
  }
}

/** Captured requests, each damaged in one place; the door tells its own size. */
export function damagedTarget(t: Scope, server: TestApp, accepted: Set<string>): Target {
  const ask = asker(t, server)
  const path = `/api/${server.project_id}/envelope/?sentry_key=${server.public_key}`
  return async (random) => {
    const { bytes } = damages.make(random.below(damages.count))
    // The fixtures name the project that they were captured for.
    const body = Buffer.from(bytes.toString('latin1').replaceAll(capturedKey, server.public_key), 'latin1')
    const answer = await ask(requestBytes('POST', path, [], body))
    const ids = acceptedBy('envelope', answer)
    if (ids.length > 0 && holdsEvent(body)) accepted.add(ids[0]!)
  }
}

function holdsEvent(envelope: Buffer): boolean {
  return parseEnvelope(envelope).items.some((item) => item.type === 'event')
}
