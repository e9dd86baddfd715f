// Values that fit a zod schema, and values that do not, for fast-check: made from the JSON Schema that zod writes of it.

import fc from 'fast-check'
import { z } from 'zod'

interface Schema {
  type?: string
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  oneOf?: Schema[]
  pattern?: string
  format?: string
  minLength?: number
  maxLength?: number
  minimum?: number
  maximum?: number
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
}

/** What a client may send: most of it fits, as far as JSON Schema can say what the schema says. */
export function fitting(schema: z.ZodType): fc.Arbitrary<unknown> {
  return generated(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Schema)
}

/** Anything of JSON, and what fits with one field replaced. */
export function unfitting(schema: z.ZodType): fc.Arbitrary<unknown> {
  const hostile = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom<unknown>('\0', '\ud800', '', '1e999', -1, 2 ** 53, [], {}, '../..', "' or 1=1 --"),
  )
  const spoiled = fc
    .tuple(fitting(schema), fc.string({ maxLength: 12 }), hostile, fc.nat(20))
    .map(([value, key, bad, at]) => {
      if (typeof value !== 'object' || value === null) return bad
      const keys = Object.keys(value)
      const chosen = keys.length > 0 && at > 3 ? keys[at % keys.length]! : key
      return { ...value, [chosen]: bad }
    })
  return fc.oneof(spoiled, hostile)
}

function generated(schema: Schema): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const either = schema.anyOf ?? schema.oneOf
  if (either) return fc.oneof(...either.map(generated))
  switch (schema.type) {
    case 'string':
      return text(schema)
    case 'integer':
      return fc.integer({ min: schema.minimum ?? -1000, max: schema.maximum ?? 1000 })
    case 'number':
      return fc.double({ min: schema.minimum ?? -1000, max: schema.maximum ?? 1000, noNaN: true })
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    case 'array':
      return fc.array(generated(schema.items ?? {}), { maxLength: 5 })
    case 'object': {
      const properties = Object.entries(schema.properties ?? {})
      return fc.record(Object.fromEntries(properties.map(([name, one]) => [name, generated(one)])), {
        requiredKeys: schema.required ?? [],
      })
    }
    default:
      return fc.jsonValue({ maxDepth: 1 })
  }
}

function text({ pattern, format, minLength = 0, maxLength = 60 }: Schema): fc.Arbitrary<string> {
  if (format === 'date-time')
    return fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) }).map((date) => date.toISOString())
  if (pattern) return fc.stringMatching(new RegExp(pattern))
  return fc.string({ minLength, maxLength: Math.min(maxLength, 60), unit: 'grapheme' })
}
