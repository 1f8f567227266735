// The X.509 extensions that the library does not build itself: name constraints (RFC 5280, 4.2.1.10) and the CRL number (5.2.3).

import type { Extension } from "@peculiar/x509";
import { ProxyError } from "../base/errors.ts";
import { parseIp } from "../base/ip.ts";
import { derElement } from "../protocol/der-writer.ts";
import { x509 } from "./x509-library.ts";

/** What an authority may vouch for. A kind that is not given is not restricted. */
export interface NameConstraints {
  /** Domains: the name itself and all below it. */
  readonly dns?: readonly string[];
  /** CIDRs. */
  readonly ip?: readonly string[];
  /** Hosts of URIs, exact, or with a leading dot all below one: the trust domain of SPIFFE IDs. */
  readonly uri?: readonly string[];
}

const NAME_CONSTRAINTS_ID = "2.5.29.30";
const CRL_NUMBER_ID = "2.5.29.20";
const DER_INTEGER = 0x02;
const DER_SEQUENCE = 0x30;
const DER_PERMITTED_SUBTREES = 0xa0;
const DER_IP_ADDRESS = 0x87;

/** The extension, critical as RFC 5280 demands. Throws ProxyError `BAD_NAME` for a malformed CIDR. */
export function nameConstraintsExtension(permitted: NameConstraints): Extension {
  const names: Uint8Array[] = [];
  for (const domain of permitted.dns ?? []) names.push(generalName("dns", domain));
  for (const host of permitted.uri ?? []) names.push(generalName("url", host));
  for (const cidr of permitted.ip ?? []) names.push(derElement(DER_IP_ADDRESS, addressAndMask(cidr)));
  const subtrees = names.map((name) => derElement(DER_SEQUENCE, name));
  return new x509.Extension(
    NAME_CONSTRAINTS_ID,
    true,
    derElement(DER_SEQUENCE, derElement(DER_PERMITTED_SUBTREES, ...subtrees)),
  );
}

/** A CRL number that grows as time goes on, without a counter to keep: the milliseconds since 1970. */
export function crlNumberExtension(nowMs: number): Extension {
  const bytes = [0];
  for (let left = nowMs; left > 0; left = Math.floor(left / 256)) bytes.splice(1, 0, left % 256);
  // DER wants no leading zero but for the sign.
  if (bytes.length > 1 && (bytes[1] ?? 0) < 0x80) bytes.shift();
  return new x509.Extension(CRL_NUMBER_ID, false, derElement(DER_INTEGER, Uint8Array.from(bytes)));
}

function generalName(type: "dns" | "url", value: string): Uint8Array {
  return new Uint8Array(new x509.GeneralName(type, value).rawData);
}

function addressAndMask(cidr: string): Uint8Array {
  const [address = "", lengthText = ""] = cidr.split("/");
  const bytes = parseIp(address);
  const prefix = Number(lengthText);
  if (bytes === null || !/^\d+$/.test(lengthText) || prefix > bytes.length * 8)
    throw new ProxyError("BAD_NAME", `"${cidr}" is not a CIDR`);
  const result = new Uint8Array(bytes.length * 2);
  for (const [index, byte] of bytes.entries()) {
    const ones = Math.max(0, Math.min(8, prefix - index * 8));
    const mask = (0xff00 >> ones) & 0xff;
    result[index] = byte & mask;
    result[bytes.length + index] = mask;
  }
  return result;
}
