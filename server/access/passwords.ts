// Passwords: argon2id with the parameters that OWASP recommends (19 MiB, two passes, one lane), about 25 ms. It runs in the
// thread pool, few at a time: each takes its 19 MiB, and a flood of sign-ins must not take the machine.
// https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html

import { AppError } from '../errors.ts'
import { createLimit } from '../limit.ts'

/** argon2id is the library's default. */
const parameters = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }
const atOnce = 4

export const passwordLength = { least: 10, most: 200 }

/** Loaded with the first password: most starts see none. */
const library = () => import('@node-rs/argon2')

export interface Passwords {
  hash(password: string): Promise<string>
  /** Takes as long when there is no hash, so that time tells nobody which accounts exist. */
  verify(password: string, passwordHash: string | null): Promise<boolean>
}

export function createPasswords(): Passwords {
  const gate = createLimit(atOnce)
  let decoy: Promise<string> | undefined
  return {
    hash: (password) => gate(async () => (await library()).hash(password.normalize('NFC'), parameters)),
    verify: (password, passwordHash) =>
      gate(async () => {
        const { hash, verify } = await library()
        decoy ??= hash('nobody has this password', parameters)
        const matches = await verify(passwordHash ?? (await decoy), password.normalize('NFC'))
        return matches && passwordHash !== null
      }),
  }
}

/** Length is what counts; of all else only the address itself is refused (NIST SP 800-63B, 5.1.1.2). */
export function checkPassword(password: string, email: string): void {
  const { length } = [...password]
  if (length < passwordLength.least || password.length > passwordLength.most) {
    throw new AppError(
      'unprocessable',
      `A password has ${passwordLength.least} to ${passwordLength.most} characters: choose another one`,
    )
  }
  if (email.includes(password.toLowerCase()) || /^(.)\1*$/.test(password)) {
    throw new AppError('unprocessable', 'This password is too easy to guess: choose another one')
  }
}
