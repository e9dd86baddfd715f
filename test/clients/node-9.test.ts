import { testNodeSdk } from './node.ts'

testNodeSdk({ major: '9', name: 'sentry-node-9', traces: 'transaction' })
