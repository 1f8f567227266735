import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hex } from "../../../src/base/bytes.ts";
import { type ChainTrust, type SignedList, verifyChain } from "../../../src/protocol/chain.ts";
import { readChainLink } from "../../../src/protocol/chain-link.ts";
import { constraintViolation } from "../../../src/protocol/name-constraints.ts";
import { pemBytes, splitPem } from "../../../src/protocol/pem.ts";
import { readRevocationList } from "../../../src/protocol/revocation-list.ts";
import { isListSignedBy, isSignedBy } from "../../../src/runtime/deno/signatures.ts";
import {
  certificateSummaries,
  createAuthority,
  createRevocationList,
  issueCertificate,
  issueWithNames,
  type KeyPair,
} from "../../../src/tls-tools/tls-tools.ts";
import { testPki } from "../../support/certificates.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const pki = await testPki();

function ders(pem: string): Uint8Array[] {
  return splitPem(pem, "CERTIFICATE").map((block) => pemBytes(block) ?? new Uint8Array(0));
}

function list(pem: string): SignedList {
  const der = pemBytes(pem);
  const read = der === null ? null : readRevocationList(der);
  if (der === null || read === null) throw new Error("no list");
  return { der, list: read };
}

function trust(authorities: readonly { certificatePem: string }[], lists: readonly string[] = []): ChainTrust {
  const links = authorities.flatMap(({ certificatePem }) => ders(certificatePem).map(readChainLink));
  return {
    authorities: links.filter((link) => link !== null),
    lists: lists.map(list),
    usage: "client",
    isSignedBy,
    isListSignedBy,
  };
}

function verdictOn(presented: readonly Uint8Array[], by: ChainTrust, nowMs = Date.now()): string {
  return verifyChain(presented, by, nowMs).fault;
}

function verdict(chain: readonly { certificatePem: string }[], by: ChainTrust, nowMs = Date.now()): string {
  return verdictOn(
    chain.flatMap(({ certificatePem }) => ders(certificatePem)),
    by,
    nowMs,
  );
}

const ECDSA_SHA256 = "2a8648ce3d040302";
const ECDSA_SHA384 = "2a8648ce3d040303";

/** With both key identifiers under a name that nobody knows. */
function withoutKeyIds(der: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = hex(der).replace(/0603551d(0e|23)/g, "0603551d7f");
  // Of two extensions of the same name nothing would be read.
  return new Uint8Array(Buffer.from(text.replace("0603551d7f", "0603551d7e"), "hex"));
}

async function leafOf(issuer: KeyPair, uri: string): Promise<KeyPair> {
  const options = { commonName: "x", usage: "client", lifetimeMs: HOUR_MS } as const;
  return await issueWithNames(issuer, options, [{ type: "url", value: uri }]);
}

describe("a chain", () => {
  const ours = trust([pki.authority]);

  test("of good certificates is good, in whatever order the peer sends those above its own", () => {
    expect(verdict([pki.client], ours)).toBe("");
    expect(verdict([pki.viaIntermediate], ours)).toBe("");
    const [leaf = new Uint8Array(0), ...above] = ders(pki.viaIntermediate.certificatePem);
    const shuffled = [
      leaf,
      ...ders(pki.otherAuthority.certificatePem),
      ...above,
      ...ders(pki.authority.certificatePem),
    ];
    expect(verdictOn(shuffled, ours)).toBe("");
  });

  test("may rest on an intermediate that only we have, but never end there", () => {
    expect(verdict([pki.withoutIntermediate], trust([pki.authority, pki.intermediate]))).toBe("");
    expect(verdict([pki.withoutIntermediate], trust([pki.intermediate]))).toBe("UNABLE_TO_GET_ISSUER_CERT");
  });

  test.each([
    ["of another authority", pki.wrongAuthority, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
    ["without its intermediate", pki.withoutIntermediate, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
    ["that has expired", pki.expired, "CERT_HAS_EXPIRED"],
    ["that is not valid yet", pki.notYetValid, "CERT_NOT_YET_VALID"],
    ["for servers", pki.wrongUsage, "INVALID_PURPOSE"],
    ["beyond a name constraint", pki.constrained, "permitted subtree violation"],
  ] as const)("%s is refused", (_, certificate, reason) => {
    expect(verdict([certificate], ours)).toBe(reason);
  });

  test("of no certificate, or of one that cannot be read, is refused", () => {
    expect(verdictOn([], ours)).toBe("CERT_UNREADABLE");
    expect(verdictOn([Uint8Array.of(0x30, 0)], ours)).toBe("CERT_UNREADABLE");
    const [leaf = new Uint8Array(0)] = ders(pki.client.certificatePem);
    for (let at = 0; at < leaf.length; at++) {
      const changed = leaf.slice();
      changed[at] = (changed[at] as number) ^ 0x01;
      expect(verdictOn([changed], ours)).not.toBe("");
    }
  });

  test("in which someone who is no authority signs is refused", () => {
    const { directory, client } = pki;
    const at = (name: string): string => join(directory, name);
    const openssl = (...args: string[]): void => {
      expect(spawnSync("openssl", args).status).toBe(0);
    };
    openssl(
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-subj",
      "/CN=forged",
      "-keyout",
      at("forged.key"),
      "-out",
      at("forged.csr"),
    );
    writeFileSync(at("forged.ext"), "basicConstraints=CA:FALSE\n");
    openssl(
      "x509",
      "-req",
      "-in",
      at("forged.csr"),
      "-CA",
      client.certificatePath,
      "-CAkey",
      client.keyPath,
      "-days",
      "1",
      "-set_serial",
      "7",
      "-extfile",
      at("forged.ext"),
      "-out",
      at("forged.pem"),
    );
    const forged = { certificatePem: readFileSync(at("forged.pem"), "utf8") };
    expect(verdict([forged, client], ours)).toBe("INVALID_CA");
  });

  test("with an authority out of date is refused", () => {
    expect(verdict([pki.client], ours, Date.now() + 20 * DAY_MS)).toBe("");
    expect(verdict([pki.viaIntermediate], ours, Date.now() + 29 * DAY_MS)).toBe("");
    expect(verdict([pki.client], ours, Date.now() + 800 * DAY_MS)).toBe("CERT_HAS_EXPIRED");
  });

  test("costs no signature by a key that somebody made up, and few by ours", async () => {
    const impostor = await createAuthority({ commonName: "bunnel test root", lifetimeMs: DAY_MS });
    const middles: Uint8Array[] = [];
    let leaf = new Uint8Array(0);
    // Without key identifiers each of them could be the issuer of the leaf.
    while (middles.length < 9) {
      const middle = await createAuthority({ commonName: "middle", lifetimeMs: 2 * HOUR_MS, issuer: impostor });
      const made = await leafOf(middle, "spiffe://bunnel.test/client");
      leaf = withoutKeyIds(ders(made.certificatePem)[0] ?? leaf);
      middles.push(withoutKeyIds(ders(middle.certificatePem)[0] ?? leaf));
    }
    const issuers: Uint8Array[] = [];
    const counting: ChainTrust = { ...ours, isSignedBy: (_, issuer) => issuers.push(issuer) < 0 };
    expect(verdictOn([leaf, ...middles], counting)).toBe("CERT_SIGNATURE_FAILURE");
    expect(issuers.map(hex)).toEqual(middles.map(() => hex(ours.authorities[0]?.der ?? leaf)));
  });

  test("does not rest on an issuer of the peer's that goes by the name of one of ours", async () => {
    const [named, other] = await Promise.all(
      ["named", "other"].map((commonName) => createAuthority({ commonName, lifetimeMs: DAY_MS })),
    );
    if (named === undefined || other === undefined) throw new Error("no authorities");
    const middle = await createAuthority({ commonName: "named", lifetimeMs: 2 * HOUR_MS, issuer: other });
    const [middleDer = new Uint8Array(0)] = ders(middle.certificatePem);
    const made = await leafOf(middle, "spiffe://bunnel.test/client");
    // It does not say by which key it is signed, and can be taken for one of ours when that is asked later.
    const leaf = withoutKeyIds(ders(made.certificatePem)[0] ?? middleDer);
    const known = (certificate: Uint8Array, issuer: Uint8Array): boolean =>
      hex(certificate) === hex(leaf) ? hex(issuer) === hex(middleDer) : isSignedBy(certificate, issuer);
    expect(verdictOn([leaf, middleDer], { ...trust([other]), isSignedBy: known })).toBe("");
    expect(verdictOn([leaf, middleDer], { ...trust([named, other]), isSignedBy: known })).toBe(
      "CERT_SIGNATURE_FAILURE",
    );
  });

  test("is given with the verdict: what else was sent along is not in it", async () => {
    const stranger = await createAuthority({
      commonName: "x",
      lifetimeMs: DAY_MS,
      nameConstraints: { uri: ["a.test"] },
    });
    const sent = [pki.viaIntermediate, stranger].flatMap(({ certificatePem }) => ders(certificatePem));
    const { chain } = verifyChain(sent, ours, Date.now());
    expect(chain.map(({ der }) => hex(der))).toEqual([
      ...ders(pki.viaIntermediate.certificatePem).map(hex),
      ...ders(pki.authority.certificatePem).map(hex),
    ]);
  });

  test("with a certificate that names another algorithm than it is signed by is refused", () => {
    const [leaf = new Uint8Array(0)] = ders(pki.client.certificatePem);
    const text = hex(leaf);
    const at = text.lastIndexOf(ECDSA_SHA256);
    expect(at).toBeGreaterThan(text.indexOf(ECDSA_SHA256));
    const changed = text.slice(0, at) + ECDSA_SHA384 + text.slice(at + ECDSA_SHA384.length);
    const whoever: ChainTrust = { ...ours, isSignedBy: () => true };
    expect(verdictOn([leaf], whoever)).toBe("");
    expect(verdictOn([new Uint8Array(Buffer.from(changed, "hex"))], whoever)).toBe("CERT_UNREADABLE");
  });
});

describe("revocation lists", () => {
  const { pem } = pki.revocationList;

  test("are about everyone in the chain, signed by the issuer, and up to date", () => {
    expect(verdict([pki.client], trust([pki.authority], [pem]))).toBe("");
    expect(verdict([pki.revoked], trust([pki.authority], [pem]))).toBe("CERT_REVOKED");
    expect(verdict([pki.revoked], trust([pki.authority], [pki.expiredRevocationList.pem]))).toBe("CERT_REVOKED");
    expect(verdict([pki.client], trust([pki.authority], [pki.expiredRevocationList.pem]))).toBe("CRL_HAS_EXPIRED");
    expect(verdict([pki.viaIntermediate], trust([pki.authority], [pem]))).toBe("UNABLE_TO_GET_CRL");
    const both = [pem, pki.intermediateRevocationList.pem];
    expect(verdict([pki.viaIntermediate], trust([pki.authority], both))).toBe("");
  });

  test("revoke an intermediate, also when the peer sends another certificate of the same key beside it", async () => {
    const [summary] = await certificateSummaries(pki.intermediate.certificatePem);
    const revokedSerials = [summary?.serial ?? ""];
    const nextUpdate = new Date(Date.now() + DAY_MS);
    const revoking = await createRevocationList(pki.authority, { revokedSerials, nextUpdate });
    const lists = [revoking, pki.intermediateRevocationList.pem];
    expect(verdict([pki.viaIntermediate], trust([pki.authority], lists))).toBe("CERT_REVOKED");
  });

  test("that somebody else signed in the issuer's name are no lists", async () => {
    const namesake = await createAuthority({ commonName: "bunnel test root", lifetimeMs: DAY_MS });
    const forged = await createRevocationList(namesake, {
      revokedSerials: [],
      nextUpdate: new Date(Date.now() + DAY_MS),
    });
    expect(verdict([pki.client], trust([pki.authority], [forged]))).toBe("UNABLE_TO_GET_CRL");
    const changed = list(pem);
    const der = changed.der.slice();
    der[der.length - 1] = (der[der.length - 1] as number) ^ 1;
    const tampered: ChainTrust = { ...trust([pki.authority]), lists: [{ ...changed, der }] };
    expect(verdict([pki.client], tampered)).toBe("UNABLE_TO_GET_CRL");
  });
});

describe("name constraints", () => {
  const withNames = (names: Parameters<typeof issueWithNames>[2]): Promise<KeyPair> =>
    issueWithNames(pki.authority, { commonName: "x", usage: "client", lifetimeMs: HOUR_MS }, names);
  const withDns = (value: string): Promise<KeyPair> => withNames([{ type: "dns", value }]);
  const confined = async (nameConstraints: { dns?: string[]; ip?: string[]; uri?: string[] }): Promise<KeyPair> =>
    await createAuthority({ commonName: "confined", lifetimeMs: DAY_MS, nameConstraints });

  test.each([
    ["spiffe://a.test/x", ""],
    ["spiffe://A.test/x", ""],
    ["spiffe://b.a.test/x", "permitted subtree violation"],
    ["spiffe://a.test.evil/x", "permitted subtree violation"],
    ["urn:x", "permitted subtree violation"],
  ])("a URI within a.test: %s", async (uri, reason) => {
    const authority = await confined({ uri: ["a.test"] });
    expect(verdict([await leafOf(authority, uri)], trust([authority]))).toBe(reason);
  });

  test("DNS names and addresses", async () => {
    const authority = await confined({ dns: ["a.test"], ip: ["10.0.0.0/8"] });
    const issue = (names: { dns?: string[]; ip?: string[] }): Promise<KeyPair> =>
      issueCertificate(authority, { commonName: "x", usage: "client", lifetimeMs: HOUR_MS, ...names });
    const by = trust([authority]);
    expect(verdict([await issue({ dns: ["a.test", "x.a.test"], ip: ["10.1.2.3"] })], by)).toBe("");
    for (const names of [{ dns: ["xa.test"] }, { dns: ["b.test"] }, { ip: ["11.0.0.1"] }, { ip: ["::1"] }])
      expect(verdict([await issue(names)], by)).toBe("permitted subtree violation");
    const named = await issueCertificate(authority, { commonName: "b.test", usage: "client", lifetimeMs: HOUR_MS });
    expect(verdict([named], by)).toBe("permitted subtree violation");
  });

  test.each([
    ["x.a.test", "excluded subtree violation"],
    ["*.a.test", "excluded subtree violation"],
    ["*.test", "excluded subtree violation"],
    ["*.xa.test", ""],
    ["xa.test", ""],
  ])("a name that may be within what is excluded: %s", async (name, reason) => {
    const [link] = ders((await withDns(name)).certificatePem).map(readChainLink);
    if (link === undefined || link === null) throw new Error("no certificate");
    const excluded = [{ kind: "dns", tag: 0x82, base: "a.test" } as const];
    expect(constraintViolation({ ...link, excluded }, link)).toBe(reason);
  });

  test("e-mail addresses, which are not read, are refused where there is one", async () => {
    const permitted = [{ kind: "other", tag: 0x81, base: "612e74657374" } as const];
    for (const [type, value, reason] of [
      ["email", "x@a.test", "unsupported name constraint type"],
      ["dns", "a.test", ""],
    ] as const) {
      const [link] = ders((await withNames([{ type, value }])).certificatePem).map(readChainLink);
      if (link === undefined || link === null) throw new Error("no certificate");
      expect(constraintViolation({ ...link, permitted }, link)).toBe(reason);
    }
  });
});
