// A connection as HTTP clients are too polite to use it: what is written is what is sent, and what comes back is read
// strictly. Bytes that are no answer, or an answer that nobody asked for, are kept as what they are.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { within } from './within.ts'

export interface RawAnswer {
  status: number
  /** By lower-case name. */
  headers: Map<string, string>
  body: string
}

export interface RawConnection {
  socket: Socket
  /** Every answer so far, 100 Continue too. */
  answers: RawAnswer[]
  write(bytes: string | Buffer): void
  /** The next answer that no earlier call took; null when the connection ends instead. */
  next(): Promise<RawAnswer | null>
  /** What came and is no whole answer; everything after a 101. */
  rest(): Buffer
  ended(): boolean
  /** When nothing more can come. */
  end: Promise<void>
}

export interface RawOptions {
  /** Answers are to HEAD: their length counts a body that is not sent. */
  head?: boolean
}

export async function dialRaw(port: number, { head = false }: RawOptions = {}): Promise<RawConnection> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  const answers: RawAnswer[] = []
  let rest: Buffer = Buffer.alloc(0)
  let taken = 0
  let over = false
  let wake = () => {}
  function readAnswers() {
    // What follows an upgrade is not HTTP.
    while (answers.at(-1)?.status !== 101) {
      const found = parseAnswer(rest, { head, over })
      if (found === null) break
      answers.push(found.answer)
      rest = rest.subarray(found.length)
    }
  }
  const end = new Promise<void>((resolve) => {
    const finish = () => {
      over = true
      readAnswers()
      wake()
      resolve()
    }
    socket.on('end', finish)
    socket.on('close', finish)
  })
  socket.on('error', () => {})
  socket.on('data', (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    readAnswers()
    wake()
  })
  await once(socket, 'connect')
  return {
    socket,
    answers,
    write: (bytes) => void (socket.destroyed || socket.write(bytes)),
    next() {
      const read = async () => {
        while (answers.length === taken && !over) {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
        return answers[taken++] ?? null
      }
      return within('an answer, or the end of the connection', read(), 20_000)
    },
    rest: () => rest,
    ended: () => over,
    end,
  }
}

interface State {
  head: boolean
  /** Nothing more can come. */
  over: boolean
}

/** Null when the bytes are not one whole answer (yet). */
function parseAnswer(bytes: Buffer, { head, over }: State): { answer: RawAnswer; length: number } | null {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd === -1) return null
  const [first = '', ...lines] = bytes.toString('latin1', 0, headEnd).split('\r\n')
  const status = /^HTTP\/1\.1 (\d{3}) [^\r\n]*$/.exec(first)?.[1]
  if (status === undefined) return null
  const headers = new Map<string, string>()
  for (const line of lines) {
    const [, name, value] = /^([\w-]+): ?(.*)$/.exec(line) ?? []
    if (name === undefined || value === undefined) return null
    headers.set(name.toLowerCase(), value)
  }
  const start = headEnd + 4
  const length = start + bodyLength()
  if (bytes.length < length) return null
  return { answer: { status: Number(status), headers, body: bytes.toString('utf8', start, length) }, length }

  function bodyLength(): number {
    const declared = headers.get('content-length')
    if (head || /^(1..|204|304)$/.test(status!)) return 0
    if (declared !== undefined) return Number(declared)
    // To the end of the connection: the answers that uWebSockets.js gives by itself.
    return over && headers.get('connection') === 'close' ? bytes.length - start : Number.POSITIVE_INFINITY
  }
}
