// Counters as text for Prometheus, named for the arrow they watch.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export interface Gauges {
  queued(): number
  streamSockets(): number
  ingestSockets(): number
  notifyLagSeconds(): number
  listenerConnected(): boolean
}

export type Metrics = ReturnType<typeof createMetrics>

export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect: function (this: Gauge) {
        this.set(read())
      },
    })

  return {
    events: new Counter({
      name: 'ingest_events_total',
      help: 'Events by what became of them',
      labelNames: ['result'],
      registers,
    }),
    items: new Counter({
      name: 'ingest_items_total',
      help: 'Envelope items that are answered and not stored',
      labelNames: ['type'],
      registers,
    }),
    dropped: new Counter({
      name: 'ingest_dropped_total',
      help: 'What these items held, by data category; a container counts what it says it holds',
      labelNames: ['category'],
      registers,
    }),
    requests: new Histogram({
      name: 'http_request_seconds',
      help: 'HTTP requests by route',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.002, 0.01, 0.05, 0.25, 1, 5],
      registers,
    }),
    batchEvents: new Histogram({
      name: 'write_batch_events',
      help: 'Events in a batch',
      buckets: [1, 5, 25, 100, 250],
      registers,
    }),
    batchSeconds: new Histogram({
      name: 'write_seconds',
      help: 'Time to commit a batch',
      buckets: [0.002, 0.01, 0.05, 0.25, 1, 5],
      registers,
    }),
    messages: new Counter({ name: 'relay_messages_total', help: 'Messages published to topics', registers }),
    gaps: new Counter({ name: 'stream_gaps_total', help: 'Gaps told to clients', labelNames: ['reason'], registers }),
    listenerLost: new Counter({
      name: 'listener_lost_total',
      help: 'Times that the listener lost its connection',
      registers,
    }),
    watch(gauges: Gauges) {
      gauge('write_queued_events', 'Events that wait to be written', gauges.queued)
      gauge('stream_sockets', 'Open stream sockets', gauges.streamSockets)
      gauge('ingest_sockets', 'Open ingest sockets', gauges.ingestSockets)
      gauge('notify_lag_seconds', 'Time of the last heartbeat through the database', gauges.notifyLagSeconds)
      gauge('listener_connected', '1 while LISTEN is in force', () => (gauges.listenerConnected() ? 1 : 0))
    },
    text: () => registry.metrics(),
  }
}
