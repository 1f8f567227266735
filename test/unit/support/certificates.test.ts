// The test PKI is only as good as the reasons for which openssl refuses its bad certificates.

import { describe, expect, test } from "bun:test";
import { ODD_NAMES, testPki } from "../../support/certificates.ts";

function verdict(...parameters: string[]): string {
  const { stdout, stderr } = Bun.spawnSync(["openssl", "verify", ...parameters]);
  return stdout.toString() + stderr.toString();
}

describe("the test PKI", () => {
  test("is made once", async () => {
    expect(await testPki()).toBe(await testPki());
  });

  test("has certificates that openssl accepts", async () => {
    const pki = await testPki();
    const root = ["-x509_strict", "-CAfile", pki.authority.certificatePath];
    for (const server of [pki.server, pki.databaseServer])
      expect(verdict(...root, "-purpose", "sslserver", server.certificatePath)).toContain(": OK");
    for (const client of [pki.client, pki.otherClient, pki.dnsClient, pki.commonNameClient, pki.oddNames, pki.twoUris])
      expect(verdict(...root, "-purpose", "sslclient", client.certificatePath)).toContain(": OK");
    const chain = pki.viaIntermediate.certificatePath;
    expect(verdict(...root, "-untrusted", chain, chain)).toContain(": OK");
    const lists = ["-CRLfile", pki.revocationList.path, "-CRLfile", pki.intermediateRevocationList.path];
    expect(verdict(...root, "-crl_check_all", ...lists, "-untrusted", chain, chain)).toContain(": OK");
  });

  test("has certificates that openssl refuses, each for its own reason", async () => {
    const pki = await testPki();
    const root = ["-CAfile", pki.authority.certificatePath, "-purpose", "sslclient"];
    const refused = (path: string, ...more: string[]): string => verdict(...root, ...more, path);
    expect(refused(pki.withoutIntermediate.certificatePath)).toContain("unable to get local issuer certificate");
    expect(refused(pki.expired.certificatePath)).toContain("certificate has expired");
    expect(refused(pki.notYetValid.certificatePath)).toContain("certificate is not yet valid");
    expect(refused(pki.wrongAuthority.certificatePath)).toContain("unable to get local issuer certificate");
    expect(refused(pki.wrongUsage.certificatePath)).toContain("unsuitable certificate purpose");
    expect(refused(pki.selfSigned.certificatePath)).toContain("self-signed certificate");
    const constrained = pki.constrained.certificatePath;
    expect(refused(constrained, "-untrusted", constrained)).toContain("permitted subtree violation");
    const revoked = pki.revoked.certificatePath;
    expect(refused(revoked)).toContain(": OK");
    expect(refused(revoked, "-crl_check", "-CRLfile", pki.revocationList.path)).toContain("certificate revoked");
    const stale = ["-crl_check", "-CRLfile", pki.expiredRevocationList.path];
    expect(refused(pki.client.certificatePath, ...stale)).toContain("CRL has expired");
  });

  test("keeps odd names byte for byte", async () => {
    const { oddNames } = await testPki();
    const { stdout } = Bun.spawnSync(["openssl", "x509", "-in", oddNames.certificatePath, "-outform", "DER"]);
    for (const name of ODD_NAMES) expect(Buffer.from(stdout).includes(Buffer.from(name, "latin1"))).toBe(true);
  });
});
