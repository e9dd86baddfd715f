// A page with @sentry/browser, which tells its story when the test says so. The DSN is in the address: /?dsn=…
import * as Sentry from '@sentry/browser'

Sentry.init({
  dsn: new URLSearchParams(location.search).get('dsn'),
  release: 'shop-web@1.4.2',
  environment: 'staging',
  dist: '77',
  tracesSampleRate: 1,
})

class PaymentError extends Error {
  name = 'PaymentError'
}

function loadCart(id) {
  try {
    return JSON.parse(`{"id": ${id}`)
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

window.tell = async () => {
  Sentry.setUser({ id: 'u-77', email: 'alice@example.com', username: 'alice' })
  Sentry.setTags({ region: 'eu-west-1', attempt: 3 })
  Sentry.setContext('order', { id: 'ord_987', amount: 1999, currency: 'EUR' })
  Sentry.addBreadcrumb({ category: 'cart', message: 'cart opened', level: 'info', data: { items: 2 } })
  Sentry.startSpan({ name: 'checkout', op: 'ui.action' }, () => {
    Sentry.withScope((scope) => {
      scope.addAttachment({ filename: 'cart.json', data: '{"id":987}' })
      try {
        checkout(987)
      } catch (error) {
        Sentry.captureException(error)
      }
    })
  })
  Sentry.captureMessage('Payments are slow', 'warning')
  return Sentry.flush(10_000)
}

window.capture = async (message, size = 0) => {
  // Each short enough to be kept whole.
  const texts = Array.from({ length: size / 10_000 }, (_, n) => [`text ${n}`, 'x'.repeat(10_000)])
  const id = Sentry.captureMessage(message, { extra: Object.fromEntries(texts) })
  await Sentry.flush(10_000)
  return id
}

window.startSession = async () => {
  Sentry.startSession()
  Sentry.captureSession()
  return Sentry.flush(10_000)
}

window.throwLater = () => {
  setTimeout(() => checkout(1))
  setTimeout(() => Promise.reject(new PaymentError('nobody waits for this')))
}
