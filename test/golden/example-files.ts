// The files that examples and golden configs name under certs/, made once for each test process and held in memory: nothing here has to be
// renewed, and no private key is in the repository.

import type { ConfigFiles } from "../../src/config/load.ts";
import {
  type CertificateOptions,
  createAuthority,
  createRevocationList,
  issueCertificate,
} from "../../src/tls-tools/tls-tools.ts";

const DAY_MS = 86_400_000;
let made: Promise<ReadonlyMap<string, string>> | null = null;

/** Reads `…/certs/NAME` from memory and everything else from `beneath`. */
export async function exampleFiles<F extends ConfigFiles>(beneath: F): Promise<F> {
  made ??= make();
  const certificates = await made;
  return {
    ...beneath,
    readText: (path: string) => {
      const name = /(?:^|\/)certs\/([^/]+)$/.exec(path)?.[1] ?? "";
      return certificates.get(name) ?? beneath.readText(path);
    },
  };
}

async function make(): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const authority = await createAuthority({ commonName: "examples CA", lifetimeMs: 30 * DAY_MS });
  const issue = async (name: string, options: Partial<CertificateOptions>): Promise<void> => {
    const pair = await issueCertificate(authority, { usage: "server", lifetimeMs: DAY_MS, ...options });
    files.set(`${name}.pem`, pair.certificatePem);
    files.set(`${name}.key`, pair.keyPem);
  };
  files.set("ca.pem", `The authority of the examples\n${authority.certificatePem}`);
  files.set(
    "ca.crl",
    await createRevocationList(authority, { revokedSerials: ["0a"], nextUpdate: new Date(Date.now() + DAY_MS) }),
  );
  await issue("edge", { commonName: "edge", dns: ["edge.internal"] });
  await issue("db", { dns: ["db.internal", "*.db.internal"] });
  await issue("public", { dns: ["www.example.org"] });
  await issue("nameless", { commonName: "nameless", ip: ["127.0.0.1"] });
  await issue("expired", { dns: ["old.internal"], notBefore: new Date(Date.now() - 2 * DAY_MS) });
  await issue("client", { commonName: "billing", uri: "spiffe://prod/billing/api", usage: "client" });
  for (const [name, ip] of [
    ["host-a", "10.77.0.1"],
    ["host-b", "10.77.0.2"],
  ] as const)
    await issue(name, { commonName: name, ip: [ip], uri: `spiffe://mesh.internal/${name}`, usage: "both" });
  await issue("stranger", { commonName: "stranger", uri: "spiffe://test/stranger", usage: "client" });
  files.set("bundle.pem", `${files.get("edge.key")}${files.get("edge.pem")}${authority.certificatePem}`);
  files.set("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGj\n-----END ENCRYPTED PRIVATE KEY-----\n");
  files.set("garbage.pem", "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n");
  files.set("not-a-certificate.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  files.set("empty.pem", "");
  return files;
}
