// Bytes that come in pieces. Sent one by one, a mebibyte is a million of them, each an object of a hundred bytes: so small
// pieces are joined as they come, each byte a logarithm of times.

const small = 16 * 1024

export function addPiece(pieces: Buffer[], piece: Buffer): void {
  let last = piece
  while (last.length < small) {
    const before = pieces.at(-1)
    if (before === undefined || before.length > 2 * last.length) break
    pieces.pop()
    last = Buffer.concat([before, last])
  }
  pieces.push(last)
}

export function joined(pieces: Buffer[]): Buffer {
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces)
}
