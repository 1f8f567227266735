// Which key of an issuer signed (RFC 5280, 4.2.1.1 and 5.2.1): the extension that certificates and revocation lists have alike.

import { hex } from "../base/bytes.ts";
import { type DerReader, TAG } from "./der.ts";

/** The extension, by the hexadecimal of its object identifier. */
export const AUTHORITY_KEY_ID = "551d23";
const KEY_IDENTIFIER = 0x80;

/** The key identifier in the value of the extension, in hexadecimal; "" when it names the key in another way. */
export function readAuthorityKeyId(reader: DerReader): string {
  const sequence = reader.open(TAG.SEQUENCE);
  const keyId = reader.nextTag === KEY_IDENTIFIER ? hex(reader.content(KEY_IDENTIFIER)) : "";
  while (reader.more) reader.skip(reader.nextTag);
  reader.close(sequence);
  return keyId;
}
