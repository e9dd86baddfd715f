// A cursor is a transaction horizon: everything with a smaller transaction id was sent before it, everything else is
// replayed. Sequence numbers would not do, they are taken before commit. The epoch names the life of the data that counts
// these transactions (system identifier and timeline): after a restore or a failover it is another one.

export interface Position {
  epoch: string
  /** pg_snapshot_xmin. */
  xid: bigint
}

export const cursorFrom = ({ epoch, xid }: Position): string => `${epoch}-${xid}`

/** PostgreSQL refuses a larger xid8. */
const lastXid = 2n ** 64n - 1n

/** A text that is no cursor of ours is one of another epoch: its client has to read state anew, and is told so. */
export function parseCursor(text: string): Position {
  const match = /^([0-9]{1,20}\.[0-9A-F]{8})-([0-9]{1,20})$/.exec(text)
  const xid = BigInt(match?.[2] ?? 0)
  return match && xid <= lastXid ? { epoch: match[1]!, xid } : { epoch: '', xid: 0n }
}
