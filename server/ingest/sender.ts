// Who sent a request. Behind proxies that is not the peer but whom they name: of X-Forwarded-For the right-most address that is
// no proxy of ours counts, because everything left of it was written by a stranger, and nothing counts when the peer is no
// proxy of ours.

import { BlockList, isIP } from 'node:net'
import type { HttpRequest } from '../http/types.ts'
import type { Sender } from './event.ts'

export type SenderOf = (request: Pick<HttpRequest, 'remoteAddress' | 'header'>) => Sender

const mostHops = 20

/** `trusted`: addresses and networks (`10.0.0.0/8`) of proxies. */
export function createProxyCheck(trusted: readonly string[]): (address: string) => boolean {
  const proxies = new BlockList()
  for (const entry of trusted) {
    const [address = '', bits] = entry.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    if (bits === undefined) proxies.addAddress(address, family)
    else proxies.addSubnet(address, Number(bits), family)
  }
  return (address) => isIP(address) !== 0 && proxies.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/** `trusted` as for createProxyCheck. */
export function createSenderOf(trusted: readonly string[]): SenderOf {
  const isProxy = createProxyCheck(trusted)

  /** The address is gone with the connection: this is asked before anything is waited for. */
  return (request) => {
    const user_agent = request.header('user-agent')
    let client = request.remoteAddress
    if (trusted.length > 0 && isIP(client) !== 0) {
      const hops = request.header('x-forwarded-for').split(',').slice(-mostHops).reverse()
      for (const hop of hops) {
        const address = addressFrom(hop)
        if (!isProxy(client) || address === null) break
        client = address
      }
    }
    return { client_ip: client === '' ? null : client, user_agent }
  }
}

/** Some proxies add the port: `203.0.113.7:4711`, `[2001:db8::1]:4711`. */
function addressFrom(hop: string): string | null {
  const text = hop.trim().slice(0, 64)
  if (isIP(text) !== 0) return text
  const bare = /^\[([^\]]+)\]/.exec(text)?.[1] ?? text.replace(/:\d{1,5}$/, '')
  return isIP(bare) !== 0 ? bare : null
}
