// The textual form of certificates, keys and CRLs (RFC 7468). A text may hold several blocks, and other text between them, which
// `openssl x509 -text` and CA bundles like to put there; only the blocks count. What an operator is told of a bad file is said elsewhere
// (tls-tools/pem.ts, control/material.ts).

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

/** The bytes of one block, as `splitPem` gives it; null when it is not valid base64. */
export function pemBytes(block: string): Uint8Array<ArrayBuffer> | null {
  const body = block.slice(block.indexOf("\n"), block.lastIndexOf("-----END")).replace(/\s/g, "");
  try {
    return Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
