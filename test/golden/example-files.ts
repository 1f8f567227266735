// The files that examples and golden configs name under certs/, made once for each test process and held in memory: nothing here has to be
// renewed, and no private key is in the repository. There are SPIFFE folders among them, as a SPIFFE agent would write them.

import type { Files } from "../../src/runtime/files.ts";
import {
  type CertificateOptions,
  createAuthority,
  createRevocationList,
  issueCertificate,
  type KeyPair,
} from "../../src/tls-tools/tls-tools.ts";

const DAY_MS = 86_400_000;
let made: Promise<ReadonlyMap<string, string>> | null = null;

/** Reads and lists `…/certs/…` from memory, and everything else from `beneath`. */
export async function exampleFiles<F extends Pick<Files, "readText" | "list" | "stamp">>(beneath: F): Promise<F> {
  made ??= make();
  const certificates = await made;
  const nameOf = (path: string): string => /(?:^|\/)certs\/(.+)$/.exec(path)?.[1] ?? "";
  const listed = (path: string): string[] => {
    const folder = `${nameOf(path)}/`;
    const names = [...certificates.keys()].filter((name) => name.startsWith(folder));
    return names.map((name) => name.slice(folder.length)).sort();
  };
  return {
    ...beneath,
    readText: (path: string) => certificates.get(nameOf(path)) ?? beneath.readText(path),
    list: (path: string) => (listed(path).length > 0 ? listed(path) : beneath.list(path)),
    // They never change.
    stamp: (path: string) => (certificates.has(nameOf(path)) ? "in memory" : beneath.stamp(path)),
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
  files.set("authority-first.pem", `${authority.certificatePem}${files.get("edge.pem")}`);
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
  files.set("admin-token", "a-token-of-the-examples\n");
  files.set("short-token", "too-short\n");
  await addSpiffeFolders(files);
  return files;
}

/** `svid/` is sound; `svid-…/` are wrong, each in the way that its name says. Beside them their bundles and lists, and `prod-sub.pem`, which is no root. */
async function addSpiffeFolders(files: Map<string, string>): Promise<void> {
  const root = (commonName: string): Promise<KeyPair> => createAuthority({ commonName, lifetimeMs: 30 * DAY_MS });
  const [prod, staging] = [await root("prod CA"), await root("staging CA")];
  const middle = await createAuthority({ commonName: "prod intermediate", lifetimeMs: 10 * DAY_MS, issuer: prod });
  const svid = (issuer: KeyPair): Promise<KeyPair> =>
    issueCertificate(issuer, { uri: "spiffe://prod/node/edge", usage: "both", lifetimeMs: DAY_MS });
  const leaf = await svid(middle);
  const pem = leaf.keyPem + leaf.certificatePem + middle.certificatePem;
  const other = await svid(prod);
  const nameless = await issueCertificate(prod, { dns: ["edge.prod"], usage: "both", lifetimeMs: DAY_MS });
  files.set("prod.pem", prod.certificatePem);
  files.set("staging.pem", staging.certificatePem);
  files.set("prod-sub.pem", middle.certificatePem);
  const nextUpdate = new Date(Date.now() + DAY_MS);
  files.set("prod.crl", await createRevocationList(prod, { revokedSerials: [], nextUpdate }));
  files.set("staging.crl", await createRevocationList(staging, { revokedSerials: [], nextUpdate }));
  const bundles: Readonly<Record<string, string>> = {
    "prod.spiffe-trust-bundle.pem": prod.certificatePem,
    "staging.spiffe-trust-bundle.pem": staging.certificatePem,
  };
  const folder = (name: string, content: Readonly<Record<string, string>>): void => {
    for (const [file, text] of Object.entries(content)) files.set(`${name}/${file}`, text);
  };
  const credential = { "edge.private-key.pem": pem };
  folder("svid", { ...credential, ...bundles });
  folder("svid-two-keys", { ...credential, "other.private-key.pem": pem, ...bundles });
  folder("svid-no-key", bundles);
  folder("svid-no-bundle", credential);
  folder("svid-no-svid", { "edge.private-key.pem": nameless.keyPem + nameless.certificatePem, ...bundles });
  folder("svid-mismatch", {
    "edge.private-key.pem": other.keyPem + leaf.certificatePem + middle.certificatePem,
    ...bundles,
  });
  folder("svid-bad-domain", { ...credential, "Prod.spiffe-trust-bundle.pem": prod.certificatePem });
  folder("svid-one-root-twice", {
    ...credential,
    ...bundles,
    "other.spiffe-trust-bundle.pem": prod.certificatePem,
  });
}
