// One story told with @sentry/node of any version: node node.cjs <package> <dsn>
const [, , client, dsn] = process.argv
const Sentry = require(client)

Sentry.init({
  dsn,
  release: 'shop-api@1.4.2',
  environment: 'staging',
  dist: '77',
  serverName: 'web-01.example.com',
  tracesSampleRate: 1,
})

class PaymentError extends Error {
  name = 'PaymentError'
}

function readCart(id) {
  return JSON.parse(`{"id": ${id}`)
}

function loadCart(id) {
  try {
    return readCart(id)
  } catch (cause) {
    throw new Error(`could not load cart ${id}`, { cause })
  }
}

function checkout(id) {
  try {
    return loadCart(id)
  } catch (cause) {
    throw new PaymentError(`checkout failed for order ${id}`, { cause })
  }
}

async function main() {
  Sentry.setUser({ id: 'u-77', email: 'alice@example.com', username: 'alice', ip_address: '203.0.113.7', plan: 'pro' })
  Sentry.setTags({ region: 'eu-west-1', attempt: 3, flag: true, nullish: null, empty: '' })
  Sentry.setContext('order', { id: 'ord_987', amount: 1999, currency: 'EUR' })
  Sentry.setExtra('cart', { items: ['tea', 'Käse 🧀'], total: 19.99 })
  Sentry.addBreadcrumb({ category: 'cart', message: 'cart opened', level: 'info', data: { items: 2 } })
  Sentry.addBreadcrumb({
    type: 'http',
    category: 'fetch',
    data: { method: 'POST', url: 'http://shop/pay', status_code: 502 },
  })

  Sentry.startSession()
  Sentry.captureSession()
  Sentry.startSpan({ name: 'POST /checkout', op: 'http.server' }, () => {
    Sentry.withScope((scope) => {
      scope.addAttachment({ filename: 'cart.json', data: '{"id":987}', contentType: 'application/json' })
      scope.addAttachment({ filename: 'empty.bin', data: new Uint8Array(0) })
      try {
        checkout(987)
      } catch (error) {
        Sentry.captureException(error)
      }
    })
  })
  Sentry.captureMessage('Payments are slow', 'warning')
  const texts = Array.from({ length: 10 }, (_, n) => [`text ${n}`, 'Käse '.repeat(1_000)])
  Sentry.captureMessage('Payments are large', { level: 'info', extra: Object.fromEntries(texts) })
  Sentry.endSession()
  if (!(await Sentry.close(10_000))) process.exitCode = 3
}

main()
