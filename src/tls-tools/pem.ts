// PEM texts for this folder and for config: what is not sound is a ProxyError, and bytes become text again.

import { ProxyError } from "../base/errors.ts";
import { pemBytes, pemLabels, splitPem } from "../protocol/pem.ts";

const LINE_LENGTH = 64;

/** The bytes of the first block with this label. Throws ProxyError `BAD_PEM`, which never quotes the text: it may be a key. */
export function decodePem(text: string, label: string): Uint8Array<ArrayBuffer> {
  const block = splitPem(text, label)[0];
  if (block === undefined) {
    const found = pemLabels(text).join(", ") || "no PEM block";
    throw new ProxyError("BAD_PEM", `expected a PEM block "${label}", found ${found}`);
  }
  const bytes = pemBytes(block);
  if (bytes === null) throw new ProxyError("BAD_PEM", `the PEM block "${label}" is not valid base64`);
  return bytes;
}

/** One PEM block with these bytes. */
export function encodePem(bytes: ArrayBuffer | Uint8Array, label: string): string {
  const body = base64(bytes);
  const lines = [`-----BEGIN ${label}-----`];
  for (let at = 0; at < body.length; at += LINE_LENGTH) lines.push(body.slice(at, at + LINE_LENGTH));
  lines.push(`-----END ${label}-----`, "");
  return lines.join("\n");
}

/** Base64 with padding (RFC 4648, 4). */
export function base64(bytes: ArrayBuffer | Uint8Array): string {
  let characters = "";
  for (const byte of new Uint8Array(bytes)) characters += String.fromCharCode(byte);
  return btoa(characters);
}
