export const isUniqueViolation = (error: unknown): boolean => (error as { code?: unknown }).code === '23505'
