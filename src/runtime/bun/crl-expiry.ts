// When revocation lists go out of date. BoringSSL looks at a CRL in a full handshake only, so for a resumed session the seam has to ask
// itself whether the lists still hold. Reads just as much DER as stands before that date (RFC 5280, 5.1).

const INTEGER = 0x02;
const SEQUENCE = 0x30;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;

/** A DER element: its tag, and where its content begins and ends. */
interface Element {
  readonly tag: number;
  readonly start: number;
  readonly end: number;
}

/** The earliest `nextUpdate` of the lists (one PEM each) in ms since the epoch; Infinity without lists, 0 when one cannot be read. */
export function earliestNextUpdateMs(crlPems: readonly string[]): number {
  return Math.min(Number.POSITIVE_INFINITY, ...crlPems.map(nextUpdateMs));
}

function nextUpdateMs(pem: string): number {
  const base64 = /-----BEGIN X509 CRL-----([\s\S]+?)-----END X509 CRL-----/.exec(pem)?.[1] ?? "";
  const der = Buffer.from(base64, "base64");
  const list = elementAt(der, 0);
  const toBeSigned = list?.tag === SEQUENCE ? elementAt(der, list.start) : null;
  if (toBeSigned?.tag !== SEQUENCE) return 0;
  // version (optional), signature, issuer, thisUpdate, nextUpdate (optional, but every authority of the web and of SPIFFE gives it).
  let field = elementAt(der, toBeSigned.start);
  if (field?.tag === INTEGER) field = elementAt(der, field.end);
  for (let skipped = 0; field !== null && skipped < 3; skipped++) field = elementAt(der, field.end);
  if (field === null || field.end > toBeSigned.end) return 0;
  if (field.tag !== UTC_TIME && field.tag !== GENERALIZED_TIME) return Number.POSITIVE_INFINITY;
  return timeMs(field.tag, der.toString("latin1", field.start, field.end));
}

function elementAt(der: Uint8Array, at: number): Element | null {
  const tag = der[at];
  const first = der[at + 1];
  if (tag === undefined || first === undefined) return null;
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  if (lengthBytes > 4) return null;
  let length = lengthBytes === 0 ? first : 0;
  for (let index = 0; index < lengthBytes; index++) length = length * 256 + (der[at + 2 + index] ?? 0);
  const start = at + 2 + lengthBytes;
  return start + length > der.length ? null : { tag, start, end: start + length };
}

/** `YYMMDDHHMMSSZ` (50 and above is 19YY) or `YYYYMMDDHHMMSSZ`; 0 when it is neither. */
function timeMs(tag: number, text: string): number {
  const full = tag === UTC_TIME ? `${Number(text.slice(0, 2)) < 50 ? "20" : "19"}${text}` : text;
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(full);
  if (parts === null) return 0;
  const [, year, month, day, hour, minute, second] = parts;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`) || 0;
}
