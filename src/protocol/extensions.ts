// The extensions of certificates and of revocation lists (RFC 5280, 4.1.2.9 and 5.1.2.7): one after the other, for callers that interpret them.

import { type DerReader, TAG } from "./der.ts";

/** What stands in front of the value of an extension, as views. */
export interface ExtensionHead {
  /** The content of its object identifier. */
  readonly id: Uint8Array;
  /** The content of the BOOLEAN that says whether it is critical; null when it is left out, which says FALSE. */
  readonly critical: Uint8Array | null;
  /** Where the extension begins: once the value is read, `reader.since` gives the whole of it. */
  readonly start: number;
}

/**
 * Shows each extension in the next element, which must have this tag. The reader stands at its value then, an OCTET STRING, which `show` has to move past.
 */
export function eachExtension(reader: DerReader, tag: number, show: (head: ExtensionHead) => void): void {
  const outer = reader.open(tag);
  eachInSequence(reader, show);
  reader.close(outer);
}

/** The same without an element around their sequence, as in the entries of a revocation list (5.3). */
export function eachInSequence(reader: DerReader, show: (head: ExtensionHead) => void): void {
  const sequence = reader.open(TAG.SEQUENCE);
  while (reader.more) {
    const { position: start } = reader;
    const extension = reader.open(TAG.SEQUENCE);
    const id = reader.content(TAG.OBJECT_IDENTIFIER);
    const critical = reader.nextTag === TAG.BOOLEAN ? reader.content(TAG.BOOLEAN) : null;
    show({ id, critical, start });
    reader.close(extension);
  }
  reader.close(sequence);
}

/** Whether it is critical. Anything but zero is true in BER, and there are readers of BER. */
export function isCritical({ critical }: ExtensionHead): boolean {
  return critical !== null && critical[0] !== 0;
}
