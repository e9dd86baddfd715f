# One story told with sentry-ruby: ruby ruby.rb <dsn>
require 'sentry-ruby'

Sentry.init do |config|
  config.dsn = ARGV[0]
  config.release = 'shop-mail@1.4.2'
  config.environment = 'staging'
  config.server_name = 'mail-01.example.com'
  config.traces_sample_rate = 1.0
  config.background_worker_threads = 0
  config.breadcrumbs_logger = []
  config.logger = Logger.new($stderr, level: Logger::WARN)
end

class PaymentError < StandardError; end

def load_cart(order)
  {}.fetch(:cart)
rescue KeyError
  raise ArgumentError, "could not load cart #{order}"
end

def checkout(order)
  load_cart(order)
rescue ArgumentError
  raise PaymentError, "checkout failed for order #{order}"
end

Sentry.set_user(id: 77, email: 'alice@example.com', username: 'alice', ip_address: '203.0.113.7')
Sentry.set_tags(region: 'eu-west-1', attempt: 3)
Sentry.set_context('order', { id: 'ord_987', amount: 1999, currency: 'EUR' })
Sentry.set_extras(cart: { items: ['tea', 'Käse 🧀'], total: 19.99 })
Sentry.add_breadcrumb(Sentry::Breadcrumb.new(category: 'cart', message: 'cart opened', level: 'info', data: { items: 2 }))
transaction = Sentry.start_transaction(name: 'POST /checkout', op: 'http.server')
begin
  checkout(987)
rescue PaymentError => e
  Sentry.capture_exception(e)
end
transaction.finish
Sentry.capture_message('Payments are slow', level: :warning)
