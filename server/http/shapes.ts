// Pieces of requests and replies that several routes share.

import { z } from 'zod'
import { roles, scopes } from '../access/access.ts'

export const Id = z.string().regex(/^[1-9][0-9]{0,17}$/, 'an id is a positive number')
/** As JSON writes a Date. */
export const Time = z.date().or(z.iso.datetime())
export const Nothing = z.strictObject({})
export const Role = z.enum(roles)
export const Scope = z.enum(scopes)
/** PostgreSQL takes no NUL in text. */
export const Name = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .refine((text) => !text.includes('\0'), 'a name holds no NUL')
export const Slug = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/, 'a slug has lower-case letters of ASCII, digits and hyphens')
  .refine((text) => !/^[0-9]+$/.test(text), 'a slug of digits alone would be taken for an id')
export const Page = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(25),
  cursor: z.string().max(100).optional(),
})
export const listOf = <T extends z.ZodType>(row: T) =>
  z.strictObject({ data: z.array(row), next_cursor: z.string().nullable() })
export const Done = z.strictObject({ status: z.literal('ok') })
export const done = { status: 'ok' as const }
