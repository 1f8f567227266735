// Revocation lists that an authority did sign, but that do not say of each of its certificates whether it is revoked: no TLS library may go by one of
// them (RFC 5280, 5.2), nor may we. Made by the openssl command.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RevocationListFile, TestPki } from "./certificates.ts";

/** What a list says of itself, as openssl writes it, and how we name that. */
export const ODD_LISTS = [
  { name: "delta", extension: "2.5.29.27=critical,DER:020101", problem: "is a delta list, which tells changes only" },
  {
    name: "indirect",
    extension: "issuingDistributionPoint=critical,@p\n[p]\nindirectCRL=TRUE",
    problem: "is an indirect list, of more issuers than its own",
  },
  {
    name: "reasons",
    extension: "issuingDistributionPoint=critical,@p\n[p]\nonlysomereasons=keyCompromise",
    problem: "is about some reasons only",
  },
  {
    name: "authorities",
    extension: "issuingDistributionPoint=critical,@p\n[p]\nonlyCA=TRUE",
    problem: "is about certificates of authorities only",
  },
  {
    name: "unknown",
    extension: "1.2.3.4=critical,DER:0500",
    problem: "has a critical extension that is not known",
  },
] as const;

/** One of them, of the PKI's root, which revokes nobody. */
export function oddRevocationList(
  { directory, authority }: TestPki,
  odd: (typeof ODD_LISTS)[number],
): RevocationListFile {
  const file = (name: string): string => join(directory, `odd-${odd.name}.${name}`);
  const path = file("crl.pem");
  writeFileSync(file("index"), "");
  writeFileSync(file("number"), "0A\n");
  const places = `database=${file("index")}\ncrlnumber=${file("number")}`;
  const config = `[ca]\ndefault_ca=d\n[d]\n${places}\ndefault_md=sha256\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n`;
  writeFileSync(file("conf"), `${config}${odd.extension}\n`);
  const by = ["-cert", authority.certificatePath, "-keyfile", authority.keyPath];
  const command = ["ca", "-gencrl", "-config", file("conf"), ...by, "-crldays", "7", "-out", path];
  execFileSync("openssl", command, { stdio: ["ignore", "ignore", "ignore"] });
  return { pem: readFileSync(path, "utf8"), path };
}
