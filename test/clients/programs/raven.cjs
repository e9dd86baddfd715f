// The client that Sentry had for Node before 2019: node raven.cjs <package> <dsn>
const [, , client, dsn] = process.argv
const Raven = require(client)

Raven.config(dsn, {
  release: 'shop-api@1.4.2',
  environment: 'staging',
  name: 'web-01.example.com',
  tags: { region: 'eu-west-1' },
  autoBreadcrumbs: false,
}).install()

function checkout(id) {
  throw new TypeError(`checkout failed for order ${id}`)
}

function sent(capture) {
  return new Promise((resolve, reject) => capture((error, id) => (error ? reject(error) : resolve(id))))
}

async function main() {
  Raven.setContext({ user: { id: 'u-77', email: 'alice@example.com', username: 'alice' }, extra: { total: 19.99 } })
  Raven.captureBreadcrumb({ category: 'cart', message: 'cart opened', level: 'info', data: { items: 2 } })
  const ids = []
  try {
    checkout(987)
  } catch (error) {
    ids.push(
      await sent((done) =>
        Raven.captureException(
          error,
          { tags: { region: 'eu-west-1', attempt: 3 }, fingerprint: ['{{ default }}'] },
          done,
        ),
      ),
    )
  }
  ids.push(await sent((done) => Raven.captureMessage('Payments are slow', { level: 'warning' }, done)))
  console.log(JSON.stringify(ids))
}

main()
