import { testNodeSdk } from './node.ts'

testNodeSdk({ major: '10', name: 'sentry-node-10', traces: 'transaction' })
