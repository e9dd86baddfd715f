import { testNodeSdk } from './node.ts'

testNodeSdk({ major: '11', name: '@sentry/node', traces: 'span' })
