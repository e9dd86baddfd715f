// The closed list of what can go wrong for a client. AppError is the only throwable with a meaning: anything else that
// reaches an edge is logged with its stack and answered as `internal`, without detail.

/** HTTP status of each code; what the same code means on a socket stands in ARCHITECTURE.md, "Errors". */
export const statusOf = {
  bad_request: 400,
  bad_envelope: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  too_large: 413,
  unsupported_encoding: 415,
  unprocessable: 422,
  rate_limited: 429,
  internal: 500,
  unavailable: 503,
  shutting_down: 503,
} as const

export type ErrorCode = keyof typeof statusOf

export interface ErrorDetail {
  path: string
  message: string
}

export class AppError extends Error {
  readonly code: ErrorCode
  /** Seconds after which it is worth trying again; sent as Retry-After. */
  readonly retryAfter: number | undefined
  readonly details: ErrorDetail[]

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; retryAfter?: number; details?: ErrorDetail[] } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AppError'
    this.code = code
    this.retryAfter = options.retryAfter
    this.details = options.details ?? []
  }

  get status(): number {
    return statusOf[this.code]
  }
}
