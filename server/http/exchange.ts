// One HTTP request and its response as uWebSockets.js gives them; part of uws.ts, whose laws it keeps.

import type * as Native from 'uWebSockets.js'
import { STATUS_CODES } from 'node:http'
import { AppError } from '../errors.ts'
import { addPiece, joined } from '../pieces.ts'
import type { Budget } from './budget.ts'
import type { CorkDonor } from './donor.ts'
import type { NativePeer, UserData } from './peer.ts'
import type { HttpReply, HttpRequest } from './types.ts'

/** One request and its response, from the native callback until the reply, the upgrade or the abort. */
export class Exchange implements HttpRequest {
  readonly method: string
  readonly path: string
  readonly query: string
  readonly routePath: string
  readonly startedAt: number
  params: Record<string, string> = {}
  aborted = false
  /** Where its body ends is open to question. */
  readonly misframed: boolean
  /** Gone once nothing may be written any more. */
  #res: Native.HttpResponse | undefined
  /** Name, value, name, value: __proto__ is nothing special here. All are copied: 1 us more than a few chosen names. */
  readonly #headers: string[] = []
  #address: string | undefined
  #chunks: Buffer[] = []
  #size = 0
  #whole = true
  #failure: unknown
  #body: Promise<Buffer> | undefined
  #settle: { resolve(body: Buffer): void; reject(error: unknown): void } | undefined
  #reader: ((chunk: Buffer) => void) | undefined
  readonly #budget: Budget
  #held = 0
  #released = false

  constructor(res: Native.HttpResponse, req: Native.HttpRequest, routePath: string, startedAt: number, budget: Budget) {
    res.onAborted(() => this.#abort())
    this.#res = res
    this.routePath = routePath
    this.startedAt = startedAt
    this.#budget = budget
    this.method = req.getMethod()
    this.path = req.getUrl()
    this.query = req.getQuery() ?? ''
    req.forEach((name, value) => void this.#headers.push(name, value))
    this.misframed = isMisframed(this.#headers)
  }

  get signal(): { readonly aborted: boolean } {
    return this
  }

  get remoteAddress(): string {
    this.#address ??= this.#res && addressFromBytes(new Uint8Array(this.#res.getRemoteAddress()))
    return this.#address ?? ''
  }

  header(name: string): string {
    for (let i = 0; i < this.#headers.length; i += 2) if (this.#headers[i] === name) return this.#headers[i + 1]!
    return ''
  }

  /** Starts to gather the body at once: bytes that come before anybody listens would be lost. */
  collect(req: Native.HttpRequest, maxBody: number): void {
    const declared = req.getHeader('content-length')
    if (Number(declared) > maxBody) this.#fail(tooLarge(maxBody))
    else if (maxBody > 0) {
      this.#whole = false
      this.#res?.onData((chunk, isLast) => {
        try {
          this.#take(chunk, isLast, maxBody)
        } catch (error) {
          this.#fail(error) // No memory for the copy, say.
        }
      })
    } else if (req.getHeader('transfer-encoding') !== '') this.#fail(tooLarge(maxBody))
  }

  body(): Promise<Buffer> {
    this.#body ??= new Promise((resolve, reject) => {
      if (this.#failure) reject(this.#failure)
      else if (this.#whole) resolve(this.#bytes())
      else this.#settle = { resolve, reject }
    })
    // A handler that asked early and looks late (or never) is no reason for an unhandled rejection.
    if (this.#failure) this.#body.catch(() => {})
    return this.#body
  }

  read(take: (chunk: Buffer) => void): Promise<void> {
    this.#reader = take
    const waiting = this.#chunks
    this.#chunks = []
    try {
      for (const chunk of waiting) {
        this.hold(-chunk.length)
        take(chunk)
      }
    } catch (error) {
      this.#fail(error)
    }
    return this.body() as Promise<unknown> as Promise<void>
  }

  hold(bytes: number): void {
    if (this.#released) throw answered()
    this.#budget.take(bytes, this.#held)
    this.#held += bytes
  }

  /** Nothing of the request is in memory any more. */
  release(): void {
    this.#budget.give(this.#held)
    this.#held = 0
    this.#released = true
    if (!this.#whole && !this.#failure) this.#fail(answered())
  }

  reply(reply: HttpReply, last: boolean): void {
    this.#chunks = []
    this.#reader = undefined
    this.#use((res) => res.cork(() => this.#write(res, reply, last)))
  }

  upgrade<D>(
    peer: NativePeer<D>,
    key: string,
    protocol: string,
    context: Native.us_socket_context_t,
    donor: CorkDonor | undefined,
  ): void {
    this.#use((res) => {
      const upgrade = () => res.upgrade<UserData<D>>({ peer }, key, protocol, '', context)
      if (donor) donor.lend(() => res.cork(upgrade))
      else upgrade()
    })
  }

  /** The last use of the response. When it fails halfway nothing sensible can follow, so the connection ends. */
  #use(use: (res: Native.HttpResponse) => void): void {
    const res = this.#res
    if (!res) return
    this.#res = undefined
    try {
      use(res)
    } catch (error) {
      closeIfOpen(res)
      throw error
    }
  }

  #write(res: Native.HttpResponse, { status, headers = {}, cookies = [], body = '' }: HttpReply, last: boolean): void {
    res.writeStatus(statusLines.get(status) ?? `${status} Unknown`)
    if (typeof body === 'string' && body !== '' && headers['content-type'] === undefined)
      res.writeHeader('content-type', 'application/json')
    for (const name in headers) res.writeHeader(name, oneLine(headers[name]!))
    for (const cookie of cookies) res.writeHeader('set-cookie', oneLine(cookie))
    // Said, but not forced: a forced close resets the connection when some of a body is unread, and the reply with it.
    if (last) res.writeHeader('connection', 'close')
    if (status === 204 || status === 304) res.endWithoutBody()
    else if (this.method === 'head') res.endWithoutBody(Buffer.byteLength(body), this.misframed)
    else res.end(body, this.misframed)
  }

  #take(chunk: ArrayBuffer, isLast: boolean, maxBody: number): void {
    if (this.#whole || this.#failure || !this.#res) return
    this.#size += chunk.byteLength
    if (this.#size > maxBody) {
      this.#fail(tooLarge(maxBody))
      return
    }
    if (chunk.byteLength > 0) {
      if (this.#reader) this.#reader(bytesFromNative(chunk))
      else {
        this.hold(chunk.byteLength)
        addPiece(this.#chunks, bytesFromNative(chunk))
      }
    }
    if (!isLast) return
    this.#whole = true
    this.#settle?.resolve(this.#bytes())
  }

  #bytes(): Buffer {
    const chunks = this.#chunks
    this.#chunks = []
    return joined(chunks)
  }

  #fail(error: unknown): void {
    this.#failure = error
    this.#chunks = []
    this.#body?.catch(() => {})
    this.#settle?.reject(error)
  }

  #abort(): void {
    this.#res = undefined
    this.aborted = true
    if (!this.#whole) this.#fail(new AppError('bad_request', 'The connection was closed before the body was complete.'))
  }
}

const statusLines = new Map(Object.entries(STATUS_CODES).map(([code, text]) => [Number(code), `${code} ${text}`]))

function closeIfOpen(res: Native.HttpResponse): void {
  try {
    res.close()
  } catch {
    // It was answered in full or is gone: then there is nothing to close.
  }
}

/** Nobody is told: it ends what still reads. */
function answered(): AppError {
  return new AppError('bad_request', 'The request was answered before its body was read.')
}

function tooLarge(maxBody: number): AppError {
  return new AppError(
    'too_large',
    maxBody === 0
      ? 'This path takes no body; send none.'
      : `The body is larger than ${maxBody} bytes; send less at once.`,
  )
}

/**
 * Of several lengths this version takes the first, it reads an empty one as none, and every transfer coding as chunked. A
 * proxy in front may read them otherwise, and would take what follows for the answer to somebody else (RFC 9112, 6.3).
 */
function isMisframed(headers: string[]): boolean {
  let framed = 0
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!
    if (name.length !== 14 && name.length !== 17) continue
    if (name !== 'content-length' && name !== 'transfer-encoding') continue
    framed += 1
    const value = headers[i + 1]!
    if (framed > 1 || value === '' || (name.length === 17 && value.toLowerCase() !== 'chunked')) return true
  }
  return false
}

/** A copy: what uWebSockets.js hands over is detached when the callback returns. */
export function bytesFromNative(bytes: ArrayBuffer): Buffer {
  const copy = Buffer.allocUnsafe(bytes.byteLength)
  copy.set(new Uint8Array(bytes))
  return copy
}

/** 4 or 16 bytes; an IPv4 client of a socket that listens on both is written as IPv4. */
function addressFromBytes(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  if (bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255)
    return bytes.subarray(12).join('.')
  const groups = Array.from({ length: bytes.length / 2 }, (_, i) =>
    ((bytes[2 * i]! << 8) | bytes[2 * i + 1]!).toString(16),
  )
  return groups.join(':')
}

/** A line break in a value would start another header. */
function oneLine(value: string): string {
  return /[\r\n\0]/.test(value) ? value.replace(/[\r\n\0]+/g, ' ') : value
}
