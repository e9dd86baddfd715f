import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createSenderOf } from '../../server/ingest/sender.ts'

const request = (remoteAddress: string, forwarded: string) => ({
  remoteAddress,
  header: (name: string) => (name === 'x-forwarded-for' ? forwarded : name === 'user-agent' ? 'agent' : ''),
})

test('the client is the right-most address that is no proxy of ours', () => {
  const senderOf = createSenderOf(['10.0.0.0/8', '192.0.2.1', '2001:db8::/32'])
  const cases: [remote: string, forwarded: string, client: string | null][] = [
    ['203.0.113.7', '', '203.0.113.7'],
    // Whoever is no proxy of ours says what he likes.
    ['203.0.113.7', '198.51.100.1', '203.0.113.7'],
    ['10.1.2.3', '198.51.100.1', '198.51.100.1'],
    ['10.1.2.3', '1.1.1.1, 198.51.100.1', '198.51.100.1'],
    ['10.1.2.3', '1.1.1.1, 198.51.100.1, 192.0.2.1, 10.9.9.9', '198.51.100.1'],
    ['2001:db8:0:0:0:0:0:1', '2a00::5, 10.0.0.1', '2a00::5'],
    ['10.1.2.3', '203.0.113.7:4711', '203.0.113.7'],
    ['10.1.2.3', '[2a00::5]:4711', '2a00::5'],
    ['10.1.2.3', '', '10.1.2.3'],
    ['10.1.2.3', '10.0.0.1', '10.0.0.1'],
    ['10.1.2.3', '1.1.1.1, unknown', '10.1.2.3'],
    ['', '1.1.1.1', null],
  ]
  for (const [remote, forwarded, client] of cases) {
    assert.deepEqual(senderOf(request(remote, forwarded)), { client_ip: client, user_agent: 'agent' }, forwarded)
  }
})

test('without proxies the header means nothing', () => {
  assert.equal(createSenderOf([])(request('10.1.2.3', '198.51.100.1')).client_ip, '10.1.2.3')
})
