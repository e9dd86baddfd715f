// What of an event decides its issue, as a tree of texts. Its JSON is hashed, so that the borders between parts count:
// ["ab","c"] is not ["a","bc"].

import type { CspReport } from '../csp.ts'
import type { Exception } from '../exceptions.ts'
import type { Frame } from '../frames.ts'
import type { Message } from '../message.ts'
import { parameterised } from './parameterise.ts'
import { type StackPart, stackVariants, type Variant } from './stacks.ts'

export type Components =
  | ExceptionPart[]
  | ['stack', StackPart[]]
  | ['csp', directive: string, blocked: string]
  | ['msg', text: string]
  | ['none', logger: string, transaction: string]

export type ExceptionPart = ['exc', type: string, StackPart[] | string]

export type Variants<T> = Record<Variant, T>

export interface Said {
  exceptions: Exception[]
  /** Outside the exceptions. */
  stack: Frame[]
  csp: CspReport | null
  message: Message | null
  logger: string | null
  transaction: string | null
}

/** The first of these that the event has. */
export function componentsOf(said: Said): Variants<Components> {
  if (said.exceptions.length > 0) {
    const parts = said.exceptions.map(exceptionParts)
    const app = parts.map((part) => part.app)
    return { app, system: parts.some(differ) ? parts.map((part) => part.system) : app }
  }
  const { app, system } = stackVariants(said.message === null ? said.stack : [])
  if (app.length > 0) {
    const whole: Components = ['stack', app]
    return { app: whole, system: app === system ? whole : ['stack', system] }
  }
  const other = withoutFrames(said)
  return { app: other, system: other }
}

/** Where all frames of a stack are in the app, or none is, both variants are one and the same. */
function differ({ app, system }: Variants<unknown>): boolean {
  return app !== system
}

export function exceptionParts(exception: Exception): Variants<ExceptionPart> {
  const { app, system } = stackVariants(exception.frames)
  const type = (exception.type ?? '').replace(/(@anonymous).*$/s, '$1')
  if (app.length > 0) {
    const shown = exception.synthetic ? '' : type
    const part: ExceptionPart = ['exc', shown, app]
    return { app: part, system: app === system ? part : ['exc', shown, system] }
  }
  const part: ExceptionPart = ['exc', type, parameterised(exception.value ?? '')]
  return { app: part, system: part }
}

function withoutFrames({ csp, message, logger, transaction }: Said): Components {
  if (csp !== null) return ['csp', csp.directive, csp.blocked]
  if (message !== null) return ['msg', parameterised(message.template)]
  return ['none', logger ?? '', transaction ?? '']
}
