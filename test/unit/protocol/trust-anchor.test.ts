// The second half shows, on the TLS library that the daemon uses, what the first half is for: a trust domain's authorities vouch for nobody else.

import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import type { AddressInfo } from "node:net";
import tls from "node:tls";
import fc from "fast-check";
import { readCertificateDetails } from "../../../src/protocol/certificate-details.ts";
import { constrainAnchor } from "../../../src/protocol/trust-anchor.ts";
import { encodePem } from "../../../src/tls-tools/pem.ts";
import {
  type AuthorityOptions,
  createAuthority,
  issueCertificate,
  type KeyPair,
} from "../../../src/tls-tools/tls-tools.ts";
import { certificate, element, octets, opensslCertificate, sequence } from "../../support/certificate-bytes.ts";

const DAY = { lifetimeMs: 86_400_000 };
const rootA = await authority({ commonName: "root A" });
const rootB = await authority({ commonName: "root B" });
const middleB = await authority({ commonName: "middle B", issuer: rootB });
const serverPair = await issueCertificate(rootA, { dns: ["server.test"], usage: "server", ...DAY });

describe("the copy", () => {
  test("differs from the original in its constraint and in nothing else", () => {
    const original = derOf(rootA);
    const copy = constrained(original, "prod.example.org");
    expect(opensslText(copy)).toMatch(
      /X509v3 Name Constraints: critical\s+Permitted:\s+URI:prod\.example\.org\s+Signature/,
    );
    const withoutConstraint = (text: string): string =>
      text.replace(/\s+X509v3 Name Constraints: critical\s+Permitted:\s+URI:\S+/, "");
    expect(withoutConstraint(opensslText(copy))).toBe(opensslText(original));
    expect(readCertificateDetails(copy)).toEqual(readCertificateDetails(original));
  });

  test("of a large certificate, too", () => {
    const names = Array.from({ length: 5000 }, (_, index) => `URI:spiffe://a/${index}`).join(",");
    const original = opensslCertificate({
      subject: ["CN=large"],
      extensions: ["basicConstraints=CA:TRUE", `subjectAltName=${names}`],
    });
    expect(original.length).toBeGreaterThan(0xffff);
    expect(readCertificateDetails(constrained(original, "a"))?.uris.length).toBe(5000);
  });

  test("is of the same trust domain when it is made again", () => {
    const once = constrained(derOf(rootA), "a");
    expect(constrained(once, "a").toHex()).toBe(once.toHex());
    expect(constrainAnchor(once, "b")).toBe(
      'it may vouch for other trust domains only: its name constraints do not permit "b"',
    );
  });

  test.each([
    ["permitted;URI:a,permitted;URI:b", "a", "Permitted: URI:a"],
    ["permitted;URI:A", "a", "Permitted: URI:a"],
    ["permitted;DNS:example.org", "a", "Permitted: DNS:example.org URI:a"],
    ["permitted;DNS:example.org,permitted;URI:a", "a", "Permitted: DNS:example.org URI:a"],
    ["excluded;DNS:example.org", "a", "Permitted: URI:a Excluded: DNS:example.org"],
    ["permitted;IP:10.0.0.0/255.0.0.0,excluded;URI:c", "a", "Permitted: IP:10.0.0.0/255.0.0.0 URI:a Excluded: URI:c"],
  ])("with constraints of its own: %s", (own, trustDomain, printed) => {
    const text = opensslText(constrained(constrainedByOpenssl(own), trustDomain));
    const found = /X509v3 Name Constraints: critical\s+(.*?)\s+(?=X509v3|Signature)/s.exec(text)?.[1] ?? "";
    expect(found.replace(/\s+/g, " ")).toBe(printed);
  });

  test.each([
    ["permitted;URI:b", "a"],
    ["permitted;URI:.a", "a"],
    ["permitted;URI:.a", "x.a"],
    ["permitted;URI:x.a,permitted;URI:b", "a"],
    ["permitted;URI:a", "x.a"],
  ])("is not made when %s does not permit %s exactly", (own, trustDomain) => {
    expect(constrainAnchor(constrainedByOpenssl(own), trustDomain)).toBe(
      `it may vouch for other trust domains only: its name constraints do not permit "${trustDomain}"`,
    );
  });

  test("a certificate that another one issued stays as it is", () => {
    const original = derOf(middleB);
    expect(constrained(original, "a").toHex()).toBe(original.toHex());
  });

  test.each([
    ["", "it cannot be kept to its trust domain: the trust domain is empty"],
    ["A", "it cannot be kept to its trust domain: a trust domain has only a-z, 0-9, dots, hyphens and underscores"],
    [".example.org", "it cannot be kept to a trust domain whose name begins with a dot"],
  ])("is not made for the trust domain %j", (name, problem) => {
    expect(constrainAnchor(derOf(rootA), name)).toBe(problem);
  });

  test("is not made of what is no authority", () => {
    const leaf = opensslCertificate({ subject: ["CN=web"] });
    const first = opensslCertificate({ subject: ["CN=first"], extensions: [] });
    for (const der of [leaf, first, certificate({})])
      expect(constrainAnchor(der, "a")).toBe("it is no authority (CA=false)");
    for (const der of [new Uint8Array(0), Uint8Array.of(0x30, 0), derOf(rootA).subarray(1)])
      expect(constrainAnchor(der, "a")).toBe("it cannot be read");
  });

  test("is not made of one whose name constraints cannot be read", () => {
    const isCa = extension([0x55, 0x1d, 0x13], sequence(element(0x01, [0xff])));
    for (const constraints of [element(0x01, [0xff]), sequence(element(0xa0, [0])), sequence(sequence())])
      expect(
        constrainAnchor(certificate({ extensions: [isCa, extension([0x55, 0x1d, 0x1e], constraints)] }), "a"),
      ).toBe("it has name constraints that cannot be read");
  });

  test("never throws, and what it makes is always kept to the trust domain", () => {
    const originals = [derOf(rootA), constrainedByOpenssl("permitted;DNS:example.org,permitted;URI:a,excluded;URI:c")];
    const edit = fc.record({
      at: fc.nat(),
      remove: fc.constantFrom(0, 1, 1, 1, 2, 5),
      insert: fc.uint8Array({ maxLength: 3 }),
    });
    let made = 0;
    fc.assert(
      fc.property(fc.nat(1), fc.array(edit, { minLength: 1, maxLength: 3 }), (which, edits) => {
        let der = originals[which] ?? new Uint8Array(0);
        for (const { at, remove, insert } of edits) {
          const start = at % der.length;
          der = Uint8Array.of(...der.subarray(0, start), ...insert, ...der.subarray(start + remove));
        }
        const copy = constrainAnchor(der, "a");
        if (typeof copy === "string") return;
        const details = readCertificateDetails(copy);
        expect(details).toEqual(readCertificateDetails(der));
        if (details?.issuer !== details?.subjectDer) return;
        made++;
        // Critical, and the only URI among what is permitted is ours.
        const constraints = Buffer.from(copy).toString("latin1").split("\x06\x03\x55\x1d\x1e\x01\x01\xff").slice(1);
        expect(constraints.length).toBe(1);
        expect(constrainAnchor(copy, "a")).toEqual(copy);
        expect(constrainAnchor(copy, "c")).toBeString();
      }),
      { numRuns: 2000 },
    );
    expect(made).toBeGreaterThan(100);
  });
});

describe("BoringSSL, given the copies as its authorities,", () => {
  const both = [pemOf(constrained(derOf(rootA), "a")), pemOf(constrained(derOf(rootB), "b"))];
  const constraint = "UNSPECIFIED";

  test("accepts each trust domain under its own authority", async () => {
    expect(await verdict(both, await leaf(rootA, "spiffe://a/x"))).toBe("");
    expect(await verdict(both, await leaf(rootB, "spiffe://b/x"))).toBe("");
    expect(await verdict(both, await leaf(rootB, "spiffe://b/x", ["x.a"]))).toBe("");
  });

  test("refuses a trust domain under the authority of another, which it would accept without the constraint", async () => {
    const stranger = await leaf(rootB, "spiffe://a/x");
    expect(await verdict([rootA.certificatePem, rootB.certificatePem], stranger)).toBe("");
    expect(await verdict(both, stranger)).toBe(constraint);
    expect(await verdict(both.toReversed(), stranger)).toBe(constraint);
    expect(await verdict(both, await leaf(rootB, "spiffe://x.b/x"))).toBe(constraint);
    expect(await verdict(both, await leaf(rootB, "spiffe://b.a/x"))).toBe(constraint);
  });

  test("does the same through an intermediate authority", async () => {
    expect(await verdict(both, await leaf(middleB, "spiffe://b/x"), [middleB])).toBe("");
    const stranger = await leaf(middleB, "spiffe://a/x");
    expect(await verdict([rootB.certificatePem], stranger, [middleB])).toBe("");
    expect(await verdict(both, stranger, [middleB])).toBe(constraint);
  });

  test("is not led astray by a peer that sends the original authority along", async () => {
    expect(await verdict(both, await leaf(rootB, "spiffe://b/x"), [rootB])).toBe("");
    expect(await verdict(both, await leaf(rootB, "spiffe://a/x"), [rootB])).toBe(constraint);
    expect(await verdict(both, await leaf(middleB, "spiffe://b/x"), [middleB, rootB])).toBe("");
    expect(await verdict(both, await leaf(middleB, "spiffe://a/x"), [middleB, rootB])).toBe(constraint);
  });

  test("tells authorities of the same name apart", async () => {
    const first = await authority({ commonName: "same" });
    const second = await authority({ commonName: "same" });
    const anchors = [pemOf(constrained(derOf(first), "a")), pemOf(constrained(derOf(second), "b"))];
    for (const list of [anchors, anchors.toReversed()]) {
      expect(await verdict(list, await leaf(first, "spiffe://a/x"))).toBe("");
      expect(await verdict(list, await leaf(second, "spiffe://b/x"))).toBe("");
      expect(await verdict(list, await leaf(first, "spiffe://b/x"))).toBe(constraint);
      expect(await verdict(list, await leaf(second, "spiffe://a/x"))).toBe(constraint);
    }
  });

  test("takes no authority that another one issued for a root", async () => {
    const alone = [pemOf(constrained(derOf(middleB), "b"))];
    expect(await verdict(alone, await leaf(middleB, "spiffe://b/x"), [middleB])).not.toBe("");
    expect(await verdict([...both, ...alone], await leaf(middleB, "spiffe://b/x"))).toBe("");
    expect(await verdict([...both, ...alone], await leaf(middleB, "spiffe://a/x"))).toBe(constraint);
  });

  test("lets names of other kinds pass: a certificate without URI is for others to refuse", async () => {
    const nameless = await issueCertificate(rootB, { dns: ["web.test"], usage: "client", ...DAY });
    expect(await verdict(both, nameless)).toBe("");
  });
});

/** What a server that trusts `anchors` finds wrong with a client's certificate: "" or the library's code. */
async function verdict(anchors: readonly string[], client: KeyPair, chain: readonly KeyPair[] = []): Promise<string> {
  const server = tls.createServer({
    key: serverPair.keyPem,
    cert: serverPair.certificatePem,
    ca: [...anchors],
    requestCert: true,
    rejectUnauthorized: false,
  });
  const judged = new Promise<string>((resolve, reject) => {
    server.on("secureConnection", (socket) => {
      const { authorizationError: error } = socket as { authorizationError: unknown };
      const code = error instanceof Error && "code" in error ? String(error.code) : String(error ?? "");
      resolve(socket.authorized ? "" : code || "refused");
      socket.destroy();
    });
    server.on("error", reject);
    server.on("tlsClientError", reject);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = tls.connect({
    port: (server.address() as AddressInfo).port,
    host: "127.0.0.1",
    key: client.keyPem,
    cert: client.certificatePem + chain.map(({ certificatePem }) => certificatePem).join(""),
    ca: serverPair.certificatePem,
    rejectUnauthorized: false,
  });
  // It is the server's end that is asked; how the client's ends says nothing.
  socket.on("error", () => undefined);
  try {
    return await judged;
  } finally {
    socket.destroy();
    server.close();
  }
}

function authority(options: Omit<AuthorityOptions, "lifetimeMs">): Promise<KeyPair> {
  return createAuthority({ ...options, lifetimeMs: (options.issuer === undefined ? 4 : 2) * DAY.lifetimeMs });
}

function leaf(issuer: KeyPair, uri: string, dns: readonly string[] = []): Promise<KeyPair> {
  return issueCertificate(issuer, { uri, dns, usage: "client", ...DAY });
}

function constrained(der: Uint8Array, trustDomain: string): Uint8Array<ArrayBuffer> {
  const copy = constrainAnchor(der, trustDomain);
  if (typeof copy === "string") throw new Error(copy);
  return copy;
}

function constrainedByOpenssl(nameConstraints: string): Uint8Array {
  const extensions = ["basicConstraints=critical,CA:TRUE", `nameConstraints=${nameConstraints}`];
  return opensslCertificate({ subject: ["CN=constrained"], extensions });
}

function extension(id: readonly number[], content: Uint8Array): Uint8Array {
  return sequence(element(0x06, id), octets(content));
}

function derOf({ certificatePem }: KeyPair): Uint8Array {
  return new Uint8Array(new X509Certificate(certificatePem).raw);
}

function pemOf(der: Uint8Array<ArrayBuffer>): string {
  return encodePem(der.buffer, "CERTIFICATE");
}

function opensslText(der: Uint8Array): string {
  return execFileSync("openssl", ["x509", "-inform", "DER", "-noout", "-text"], { input: der, encoding: "utf8" });
}
