// The body of a request -> the envelope in it, and whose it is. It is read as it comes: a wrong key ends the reading with
// the first line, a body that is too large where it is too large, and what is not kept of it is never in memory.

import type { HttpRequest } from '../http/types.ts'
import type { Accept, ProjectKey } from './accept.ts'
import { readBody } from './body.ts'
import { credentialsOf, dsnFrom, publicKeyFrom } from './credentials.ts'
import { type Envelope, EnvelopeParser } from './envelope.ts'
import { keepUseful } from './items.ts'

export interface Received {
  key: ProjectKey
  envelope: Envelope
}

/** `project` is the path's; a tunnel has none. */
export async function receiveEnvelope(accept: Accept, request: HttpRequest, project?: string): Promise<Received> {
  const sent = publicKeyFrom(credentialsOf(request))
  const early = sent === null ? null : await accept.authenticate(sent, project)
  const parser = new EnvelopeParser(keepUseful())
  let held = 0
  const take = (bytes: Buffer) => {
    parser.write(bytes)
    if (parser.held <= held) return
    request.hold(parser.held - held)
    held = parser.held
  }
  if (early !== null) {
    await readBody(request, take)
    return { key: early, envelope: parser.end() }
  }
  return readAndIdentify(accept, request, parser, take, project)
}

/** The key stands in the envelope's header alone: once that is read the key is looked up, and refused if it has to be. */
function readAndIdentify(
  accept: Accept,
  request: HttpRequest,
  parser: EnvelopeParser,
  take: (bytes: Buffer) => void,
  project: string | undefined,
): Promise<Received> {
  return new Promise((resolve, reject) => {
    let key: ProjectKey | Promise<ProjectKey> | null = null
    const identify = () => {
      if (key !== null || parser.header === null) return
      const dsn = dsnFrom(parser.header.dsn)
      key = accept.authenticate(dsn?.public_key ?? null, project ?? dsn?.project)
      if (key instanceof Promise) key.catch(reject)
    }
    async function read() {
      await readBody(request, (bytes) => {
        take(bytes)
        identify()
      })
      const envelope = parser.end()
      // A header without a line feed is complete only now.
      identify()
      return { key: (await key)!, envelope }
    }
    read().then(resolve, reject)
  })
}
