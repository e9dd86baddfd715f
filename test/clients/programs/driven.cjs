// @sentry/node that does what its parent says, by a clock that stands still until it is moved: node driven.cjs <package> <dsn> [tunnel]
let now = Date.now()
Date.now = () => now

const [, , client, dsn, tunnel] = process.argv
const Sentry = require(client)
Sentry.init({ dsn, release: 'shop-api@1.4.2', ...(tunnel && { tunnel }) })

/** Each short enough to be kept whole. */
const textsOf = (size) =>
  Object.fromEntries(Array.from({ length: size / 10_000 }, (_, n) => [`text ${n}`, 'x'.repeat(10_000)]))

const commands = {
  /** An event of about so many characters. */
  capture: ({ message, size = 0 }) => Sentry.captureMessage(message, { extra: textsOf(size) }),
  checkIn: ({ slug }) => Sentry.captureCheckIn({ monitorSlug: slug, status: 'ok' }),
  wait: ({ seconds }) => {
    now += seconds * 1000
  },
}

process.on('message', async ({ name, ...parameters }) => {
  const id = commands[name](parameters) ?? null
  const flushed = await Sentry.flush(30_000)
  process.send({ id, flushed })
})
process.on('disconnect', () => process.exit())
process.send('ready')
