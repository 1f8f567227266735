// Whether a live connection's leaf would still verify: what `Trust` answers has to be what the TLS library would say in a new handshake, as far as
// that can be known without the peer's chain.

import { beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pemBytes } from "../../../src/protocol/pem.ts";
import { constrainAnchor } from "../../../src/protocol/trust-anchor.ts";
import { Trust, type TrustSpec } from "../../../src/proxy/trust.ts";
import { isSignedBy } from "../../../src/runtime/bun/tls.ts";
import { encodePem } from "../../../src/tls-tools/pem.ts";
import {
  certificateSummaries,
  createAuthority,
  createRevocationList,
  issueCertificate,
  type KeyPair,
} from "../../../src/tls-tools/tls-tools.ts";
import { run } from "../../support/child.ts";
import { temporaryDirectory } from "../../support/temporary.ts";

const DAY_MS = 86_400_000;
const LIFE = { lifetimeMs: 100 * DAY_MS };
const CLIENT = { usage: "client", lifetimeMs: DAY_MS, uri: "spiffe://a.test/client" } as const;

let root: KeyPair;
let sameName: KeyPair;
let other: KeyPair;
let intermediate: KeyPair;
let leaf: KeyPair;
let otherLeaf: KeyPair;
let below: KeyPair;

beforeAll(async () => {
  root = await createAuthority({ commonName: "root", ...LIFE });
  sameName = await createAuthority({ commonName: "root", ...LIFE });
  other = await createAuthority({ commonName: "other", ...LIFE });
  intermediate = await createAuthority({ commonName: "intermediate", lifetimeMs: 50 * DAY_MS, issuer: root });
  leaf = await issueCertificate(root, CLIENT);
  otherLeaf = await issueCertificate(other, CLIENT);
  below = await issueCertificate(intermediate, CLIENT);
});

function trust(authorities: readonly KeyPair[], rest: Partial<TrustSpec> = {}): Trust {
  return new Trust({
    anchorsPem: authorities.map(({ certificatePem }) => certificatePem),
    crlsPem: [],
    trustDomains: [],
    ...rest,
  });
}

function der({ certificatePem }: KeyPair): Uint8Array {
  const bytes = pemBytes(certificatePem);
  if (bytes === null) throw new Error("no PEM");
  return bytes;
}

/** What is said of a certificate that verified before, and how many signatures had to be verified for that. */
function refusal(certificate: KeyPair, before: Trust, now: Trust): { reason: string; verified: number } {
  let verified = 0;
  const reason = now.refusal(der(certificate), before, {
    isSignedBy: (signed, issuer) => {
      verified++;
      return isSignedBy(signed, issuer);
    },
  });
  return { reason, verified };
}

async function listOf(authority: KeyPair, ...revoked: readonly KeyPair[]): Promise<string> {
  const summaries = await Promise.all(revoked.map(({ certificatePem }) => certificateSummaries(certificatePem)));
  return await createRevocationList(authority, {
    revokedSerials: summaries.map(([summary]) => summary?.serial ?? ""),
    nextUpdate: new Date(Date.now() + DAY_MS),
  });
}

/** The same authority, name and key, in another certificate. */
async function reissued(authority: KeyPair): Promise<KeyPair> {
  const directory = temporaryDirectory("bunnel-trust-");
  const [certificate, key] = [join(directory, "ca.pem"), join(directory, "ca.key")];
  writeFileSync(certificate, authority.certificatePem);
  writeFileSync(key, authority.keyPem);
  const made = await run(["openssl", "x509", "-in", certificate, "-signkey", key, "-days", "50"]);
  return { ...authority, certificatePem: made.stdout };
}

describe("authorities", () => {
  test("the issuer stays while others come and go: kept, and no signature is verified", () => {
    expect(refusal(leaf, trust([root, other]), trust([root]))).toEqual({ reason: "", verified: 0 });
    expect(refusal(leaf, trust([root]), trust([other, root]))).toEqual({ reason: "", verified: 0 });
  });

  test("the issuer is taken away", () => {
    expect(refusal(leaf, trust([root, other]), trust([other])).reason).toBe("no authority vouches for it");
    expect(refusal(otherLeaf, trust([root, other]), trust([other])).reason).toBe("");
  });

  test("another authority of the same name is no replacement", () => {
    expect(refusal(leaf, trust([root]), trust([sameName])).reason).toBe("no authority vouches for it");
  });

  test("of two of the same name the one that signed counts, and the key identifiers tell which without a signature verified", () => {
    expect(refusal(leaf, trust([root]), trust([sameName, root]))).toEqual({ reason: "", verified: 0 });
    expect(refusal(leaf, trust([sameName, root]), trust([sameName])).reason).toBe("no authority vouches for it");
    expect(refusal(leaf, trust([sameName, root]), trust([root]))).toEqual({ reason: "", verified: 0 });
  });

  test("the same key in a new certificate of the authority vouches as before, without a signature verified for each connection", async () => {
    const renewed = await reissued(root);
    expect(renewed.certificatePem).not.toBe(root.certificatePem);
    expect(refusal(leaf, trust([root]), trust([renewed]))).toEqual({ reason: "", verified: 0 });
  });

  test("a leaf that is listed itself, and signed by nobody here, is refused", () => {
    expect(refusal(leaf, trust([root]), trust([leaf])).reason).toBe("no authority vouches for it");
  });

  test("what cannot be read is refused", () => {
    const now = trust([root]);
    expect(now.refusal(new Uint8Array([0x30, 0x01]), trust([root, other]), { isSignedBy })).toBe(
      "the certificate cannot be read",
    );
  });

  test("a hundred authorities: the one that signed is found, and its loss is noticed", async () => {
    const many = await Promise.all(
      Array.from({ length: 100 }, (_, index) => createAuthority({ commonName: `authority ${index}`, ...LIFE })),
    );
    const last = await issueCertificate(many[99] as KeyPair, CLIENT);
    expect(refusal(last, trust(many), trust(many.slice(50)))).toEqual({ reason: "", verified: 0 });
    expect(refusal(last, trust(many), trust(many.slice(0, 99))).reason).toBe("no authority vouches for it");
  });
});

describe("intermediates", () => {
  test("in the bundle: it, and the root above it, have to stay", () => {
    const before = trust([root, intermediate]);
    expect(refusal(below, before, trust([root, intermediate, other]))).toEqual({ reason: "", verified: 0 });
    expect(refusal(below, before, trust([intermediate])).reason).toBe("no authority vouches for it");
    expect(refusal(below, before, trust([root])).reason).toBe("no authority vouches for it");
  });

  test("sent by the peer: kept while every authority stays, ended when any is taken away", () => {
    expect(refusal(below, trust([root]), trust([root, other])).reason).toBe("");
    expect(refusal(below, trust([root, other]), trust([other])).reason).toBe("no authority vouches for it");
    expect(refusal(below, trust([root, other]), trust([root])).reason).toBe("no authority vouches for it");
  });

  test("sent by the peer, and added to the bundle since: rests on its root from then on", () => {
    expect(refusal(below, trust([root]), trust([root, intermediate])).reason).toBe("");
    expect(refusal(below, trust([root]), trust([other, intermediate])).reason).toBe("no authority vouches for it");
  });
});

describe("revocation lists", () => {
  test("the leaf is on its authority's list, and only that leaf is ended", async () => {
    const second = await issueCertificate(root, CLIENT);
    const now = trust([root], { crlsPem: [await listOf(root, leaf)] });
    expect(refusal(leaf, trust([root]), now).reason).toBe("CERT_REVOKED");
    expect(refusal(second, trust([root]), now).reason).toBe("");
  });

  test("the serial on another authority's list says nothing", async () => {
    const now = trust([root, other], { crlsPem: [await listOf(root), await listOf(other, leaf)] });
    expect(refusal(leaf, trust([root, other]), now).reason).toBe("");
  });

  test("the intermediate in the bundle is on the root's list", async () => {
    const crlsPem = [await listOf(intermediate), await listOf(root, intermediate)];
    const authorities = [root, intermediate];
    expect(refusal(below, trust(authorities), trust(authorities, { crlsPem })).reason).toBe(
      "an authority in its chain: CERT_REVOKED",
    );
    expect(refusal(leaf, trust(authorities), trust(authorities, { crlsPem })).reason).toBe("");
  });

  test("the authority has none while others have: refused, as it would be in a handshake", async () => {
    const now = trust([root, other], { crlsPem: [await listOf(other)] });
    expect(refusal(leaf, trust([root, other]), now).reason).toBe("UNABLE_TO_GET_CRL");
    expect(refusal(otherLeaf, trust([root, other]), now).reason).toBe("");
  });

  test("a list of another authority of the same name does not count", async () => {
    const both = [root, sameName];
    const onlyOther = trust(both, { crlsPem: [await listOf(sameName, leaf)] });
    expect(refusal(leaf, trust(both), onlyOther).reason).toBe("UNABLE_TO_GET_CRL");
    const withOwn = trust(both, { crlsPem: [await listOf(sameName, leaf), await listOf(root)] });
    expect(refusal(leaf, trust(both), withOwn).reason).toBe("");
  });

  test("taken away altogether: nothing is revoked any more", async () => {
    const before = trust([root], { crlsPem: [await listOf(root)] });
    expect(refusal(leaf, before, trust([root])).reason).toBe("");
  });
});

describe("trust domains", () => {
  /** As material.ts hands over the bundle of a domain. */
  function bundle(domains: Readonly<Record<string, KeyPair>>): Trust {
    const anchorsPem = Object.entries(domains).map(([domain, authority]) => {
      const anchor = constrainAnchor(der(authority), domain);
      if (typeof anchor === "string") throw new Error(anchor);
      return encodePem(anchor, "CERTIFICATE");
    });
    return new Trust({ anchorsPem, crlsPem: [], trustDomains: Object.keys(domains) });
  }

  test("added where there were plain authorities: SVIDs of the right authority stay", () => {
    expect(refusal(leaf, trust([root]), bundle({ "a.test": root })).reason).toBe("");
  });

  test("added: what is no SVID is ended", async () => {
    const named = await issueCertificate(root, { usage: "client", lifetimeMs: DAY_MS, dns: ["client.test"] });
    expect(refusal(named, trust([root]), bundle({ "a.test": root })).reason).toBe("no X.509-SVID: it has no URI name");
  });

  test("an authority that vouches for another domain now does not vouch for this one any more", () => {
    const now = bundle({ "b.test": root, "a.test": other });
    expect(refusal(leaf, trust([root, other]), now).reason).toBe('its authority does not vouch for "a.test"');
    expect(refusal(otherLeaf, trust([root, other]), now).reason).toBe("");
    expect(refusal(leaf, bundle({ "a.test": root }), bundle({ "b.test": root })).reason).toBe(
      'its authority does not vouch for "a.test"',
    );
  });

  test("a domain that went takes its connections along, and only those", async () => {
    const before = bundle({ "a.test": root, "b.test": other });
    const ofB = await issueCertificate(other, { ...CLIENT, uri: "spiffe://b.test/client" });
    expect(refusal(ofB, before, bundle({ "a.test": root })).reason).toBe("no authority vouches for it");
    expect(refusal(leaf, before, bundle({ "a.test": root })).reason).toBe("");
  });
});

test("equal when nothing differs, in order", () => {
  expect(trust([root, other]).equals(trust([root, other]))).toBe(true);
  expect(trust([root, other]).equals(trust([root]))).toBe(false);
  expect(trust([root]).equals(trust([root], { trustDomains: ["a.test"] }))).toBe(false);
  expect(trust([root]).equals(trust([root], { crlsPem: ["list"] }))).toBe(false);
});
