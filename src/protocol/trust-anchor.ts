// Placeholder while the real one is being written: fails closed.

/** Not yet. */
export function constrainAnchor(_der: Uint8Array, _trustDomain: string): Uint8Array | string {
  return "trust domains are not in this version yet";
}
