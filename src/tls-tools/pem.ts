// The textual form of certificates, keys and CRLs (RFC 7468). A file may hold several blocks, and text between them, which
// `openssl x509 -text` and CA bundles like to put there; only the blocks count.

import { ProxyError } from "../base/errors.ts";

const LINE_LENGTH = 64;

/** The blocks of `text` with this label (`CERTIFICATE`, `X509 CRL`, `PRIVATE KEY`), in order, each one a PEM text. */
export function splitPem(text: string, label: string): string[] {
  const blocks: string[] = [];
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  for (let at = text.indexOf(begin); at >= 0; at = text.indexOf(begin, at)) {
    const stop = text.indexOf(end, at);
    if (stop < 0) break;
    blocks.push(`${text.slice(at, stop + end.length)}\n`);
    at = stop + end.length;
  }
  return blocks;
}

/** The labels of all blocks that begin in `text`, without repeats: what to tell someone who gave the wrong file. */
export function pemLabels(text: string): string[] {
  return [...new Set(Array.from(text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----/g), (match) => match[1] ?? ""))];
}

/** The bytes of the first block with this label. Throws ProxyError `BAD_PEM`, which never quotes the text: it may be a key. */
export function decodePem(text: string, label: string): Uint8Array<ArrayBuffer> {
  const block = splitPem(text, label)[0];
  if (block === undefined) {
    const found = pemLabels(text).join(", ") || "no PEM block";
    throw new ProxyError("BAD_PEM", `expected a PEM block "${label}", found ${found}`);
  }
  const body = block.slice(block.indexOf("\n"), block.lastIndexOf("-----END")).replace(/\s/g, "");
  try {
    return Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
  } catch {
    throw new ProxyError("BAD_PEM", `the PEM block "${label}" is not valid base64`);
  }
}

/** One PEM block with these bytes. */
export function encodePem(bytes: ArrayBuffer, label: string): string {
  const body = base64(bytes);
  const lines = [`-----BEGIN ${label}-----`];
  for (let at = 0; at < body.length; at += LINE_LENGTH) lines.push(body.slice(at, at + LINE_LENGTH));
  lines.push(`-----END ${label}-----`, "");
  return lines.join("\n");
}

/** Base64 with padding (RFC 4648, 4). */
export function base64(bytes: ArrayBuffer): string {
  let characters = "";
  for (const byte of new Uint8Array(bytes)) characters += String.fromCharCode(byte);
  return btoa(characters);
}
