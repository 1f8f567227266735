// Certificates made by hand and by the openssl command, for the tests of who reads them. By hand, every byte can be wrong; what
// is made so is signed by nobody. For certificates that verify see certificates.ts.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type Bytes = Uint8Array | readonly number[];

/** What differs from the certificate that `certificate({})` is. */
export interface Fields {
  /** Content of the INTEGER; empty for no version. */
  readonly version?: Bytes;
  readonly serial?: Bytes;
  readonly notBefore?: Uint8Array;
  readonly notAfter?: Uint8Array;
  /** Sets of one attribute each. */
  readonly subject?: readonly Uint8Array[];
  /** Instead of `subject`. */
  readonly subjectSets?: readonly Uint8Array[];
  /** After the public key. */
  readonly extras?: readonly Uint8Array[];
  readonly extensions?: readonly Uint8Array[];
}

/** The tag, and contents of object identifiers. */
export const UTF8 = 0x0c;
export const COMMON_NAME = [0x55, 0x04, 0x03];
export const ORGANIZATION = [0x55, 0x04, 0x0a];
export const UNIT = [0x55, 0x04, 0x0b];
/** The whole element. */
export const SAN_ID = element(0x06, [0x55, 0x1d, 0x11]);

/** A certificate that nobody signed: version 3, serial 1, no subject, no extensions but for what `fields` says. */
export function certificate(fields: Fields): Uint8Array {
  const { version = [2], serial = [1], subject = [], extras = [], extensions } = fields;
  const { subjectSets = subject.map((one) => element(0x31, one)) } = fields;
  const { notBefore = element(0x17, ascii("260101000000Z")), notAfter = element(0x17, ascii("270101000000Z")) } =
    fields;
  const algorithm = sequence(element(0x06, [0x2b, 0x65, 0x70]));
  const key = sequence(algorithm, element(0x03, new Uint8Array(33)));
  const signed = sequence(
    version.length === 0 ? [] : element(0xa0, element(0x02, version)),
    element(0x02, serial),
    algorithm,
    sequence(),
    sequence(notBefore, notAfter),
    sequence(...subjectSets),
    key,
    ...extras,
    extensions === undefined ? [] : element(0xa3, sequence(...extensions)),
  );
  return sequence(signed, algorithm, element(0x03, new Uint8Array(65)));
}

export function withSubject(one: Uint8Array): Uint8Array {
  return certificate({ subject: [one] });
}

export function withSubjectSets(...subjectSets: Uint8Array[]): Uint8Array {
  return certificate({ subjectSets });
}

export function withSan(...names: Uint8Array[]): Uint8Array {
  return certificate({ extensions: [san(sequence(...names))] });
}

/** A subjectAltName extension; its value is the content, which should be a sequence of names. */
export function san(...content: Bytes[]): Uint8Array {
  return sequence(SAN_ID, octets(...content));
}

export function octets(...content: Bytes[]): Uint8Array {
  return element(0x04, ...content);
}

export function uri(text: string): Uint8Array {
  return element(0x86, ascii(text));
}

export function attribute(type: Bytes, tag: number, value: Bytes): Uint8Array {
  return sequence(element(0x06, type), element(tag, value));
}

export function sequence(...content: Bytes[]): Uint8Array {
  return element(0x30, ...content);
}

/** Tag, length in its shortest form, content. */
export function element(tag: number, ...content: Bytes[]): Uint8Array {
  const body = Buffer.concat(content.map((part) => Uint8Array.from(part)));
  const { length } = body;
  if (length < 0x80) return Uint8Array.of(tag, length, ...body);
  const bytes =
    length < 0x100 ? [length] : length < 0x10000 ? [length >> 8, length] : [length >> 16, length >> 8, length];
  return new Uint8Array(Buffer.concat([Uint8Array.of(tag, 0x80 | bytes.length, ...bytes), body]));
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function ascii(text: string): Uint8Array {
  return utf8(text);
}

export function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

export interface OpensslOptions {
  /** `TYPE=value`, `+` before it to join the set of the one before; openssl's config syntax for values. */
  readonly subject: readonly string[];
  readonly extensions?: readonly string[];
  readonly mask?: string;
  readonly days?: number;
  readonly key?: string;
}

/** A self-signed certificate as DER. */
export function opensslCertificate(options: OpensslOptions): Uint8Array {
  const { subject, extensions = ["basicConstraints=CA:FALSE"], mask, days = 30, key = "ec" } = options;
  const config = [
    "[req]\nprompt = no\nutf8 = yes\ndistinguished_name = dn",
    mask === undefined ? "" : `string_mask = MASK:${mask}`,
    extensions.length === 0 ? "" : "x509_extensions = extensions",
    // A number makes a repeated type another line of the config, and is dropped; "+" must stay in front of the type.
    "[dn]",
    ...subject.map((line, index) => (line.startsWith("+") ? line : `${index}.${line}`)),
    "[extensions]",
    ...extensions,
  ];
  const directory = mkdtempSync(join(tmpdir(), "bunnel-openssl-"));
  try {
    const configPath = join(directory, "openssl.cnf");
    writeFileSync(configPath, `${config.join("\n")}\n`);
    const newKey = ["-newkey", key, ...(key === "ec" ? ["-pkeyopt", "ec_paramgen_curve:P-256"] : []), "-nodes"];
    const output = ["-keyout", join(directory, "key.pem"), "-outform", "DER"];
    const made = execFileSync(
      "openssl",
      ["req", "-x509", "-batch", "-config", configPath, "-days", `${days}`, ...newKey, ...output],
      { stdio: ["ignore", "pipe", "ignore"] },
    );
    return new Uint8Array(made);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
