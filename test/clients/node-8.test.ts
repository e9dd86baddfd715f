import { testNodeSdk } from './node.ts'

testNodeSdk({ major: '8', name: 'sentry-node-8', traces: 'transaction' })
