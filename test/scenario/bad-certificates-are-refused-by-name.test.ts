// A certificate that nobody may show is refused, by both versions of TLS, whether trust domains or a list of authorities vouch for clients: with
// the exact reason, the subject and the names in one line of the access log, and no byte goes to an endpoint.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createAuthority, issueCertificate } from "../../src/tls-tools/tls-tools.ts";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { type Daemon, IS_DENO, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { type ForgeryOptions, forge, keepPair } from "../support/forgery.ts";
import { clientCommand } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("openssl");

/** How clients are vouched for. */
type Kind = "domain" | "authority";
const KINDS: readonly Kind[] = ["domain", "authority"];
const VERSIONS = ["1.3", "1.2"] as const;

let pki: TestPki;
let endpoint: Endpoint;
let daemon: Daemon;

beforeAll(async () => {
  pki = await testPki();
  endpoint = await startEndpoint();
  const ca = pki.authority.certificatePath;
  const vouching = { domain: `trust_domains: { bunnel.test: [${ca}] }`, authority: `client_ca: [${ca}]` };
  // A listener for each way to be refused, so that its name in a record tells which.
  const listeners = KINDS.flatMap((kind) =>
    VERSIONS.flatMap((version) =>
      ["", "-with-crl"].map(
        (crl) => `
  - name: ${kind}-${version}${crl}
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      ${vouching[kind]}
      ${crl === "" ? "" : `client_crl: [${pki.revocationList.path}]`}
    routes: [{ name: all, tls: terminate, policy: any, backend: echo }]`,
      ),
    ),
  );
  daemon = await startDaemon(`
listeners:${listeners.join("")}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

interface Refusal {
  readonly title: string;
  /** What a forged certificate says beside its good name, or where another certificate comes from. */
  readonly certificate: ForgeryOptions | ((pki: TestPki) => CertificateFiles | Promise<CertificateFiles>);
  /** Where trust domains, or where authorities vouch; null where it is let in. */
  readonly domain: string | RegExp;
  readonly authority: string | RegExp | null;
  /** After `SANs` in the log. Default: the good name. Null: it is not known to us. "": it has none. */
  readonly names?: string | null;
  readonly withCrl?: boolean;
}

const ID = "spiffe://bunnel.test/client";
const BAD_PATH = "its path has an empty segment or ends in a slash";
const BAD_CHARACTER = "its path has a character other than letters, digits, dots, hyphens and underscores";
const BAD_DOMAIN = "a trust domain has only a-z, 0-9, dots, hyphens and underscores";

function both(detail: string | RegExp): Pick<Refusal, "domain" | "authority"> {
  return { domain: detail, authority: detail };
}

function noSvid(detail: string): Pick<Refusal, "domain" | "authority"> {
  return both(`no X.509-SVID: ${detail}`);
}

function noSpiffeId(title: string, uri: string, problem: string): Refusal {
  return {
    title,
    certificate: { uris: [uri] },
    ...noSvid(`its URI name is no SPIFFE ID: ${problem}`),
    names: uri,
  };
}

const REFUSALS: readonly Refusal[] = [
  { title: "for servers only", certificate: { usage: "server" }, ...both("INVALID_PURPOSE") },
  { title: "for signing programs", certificate: { usage: "codeSigning" }, ...both("INVALID_PURPOSE") },
  // Refused before it is taken apart, so nobody knows what it said.
  {
    title: "whose key may not sign",
    certificate: { keyUsage: "keyAgreement" },
    ...both("KEY_USAGE_BIT_INCORRECT"),
    names: null,
  },
  {
    title: "with two SPIFFE IDs",
    certificate: { uris: [ID, "spiffe://bunnel.test/second"] },
    ...noSvid("it has 2 URI names, and exactly one is allowed"),
    names: `${ID} spiffe://bunnel.test/second`,
  },
  {
    title: "with a SPIFFE ID and another URI",
    certificate: { uris: ["https://bunnel.test/", ID] },
    ...noSvid("it has 2 URI names, and exactly one is allowed"),
    names: `https://bunnel.test/ ${ID}`,
  },
  {
    title: "with a URI that is no SPIFFE ID",
    certificate: { uris: ["https://bunnel.test/client"] },
    domain: "no X.509-SVID: its URI name is no SPIFFE ID: the scheme is not spiffe://",
    authority: null,
    names: "https://bunnel.test/client",
  },
  {
    title: "without any name but a common name",
    certificate: { uris: [] },
    domain: "no X.509-SVID: it has no URI name",
    authority: null,
    names: "",
  },
  {
    title: "with a DNS name only",
    certificate: { uris: [], dns: ["client.test"] },
    domain: "no X.509-SVID: it has no URI name",
    authority: null,
    names: "client.test",
  },
  {
    title: "that is an authority (CA=true)",
    certificate: { isCa: true },
    ...noSvid("it is an authority (CA=true)"),
    // Deno itself refuses it first.
    ...(IS_DENO && { authority: "it is an authority (CA=true)" }),
  },
  {
    title: "that is an authority without a SPIFFE ID",
    certificate: { uris: ["https://bunnel.test/ca"], isCa: true, keyUsage: "keyCertSign" },
    domain: "no X.509-SVID: its URI name is no SPIFFE ID: the scheme is not spiffe://",
    authority: "it is an authority (CA=true)",
    names: "https://bunnel.test/ca",
  },
  {
    title: "whose key may sign certificates",
    certificate: { keyUsage: "keyCertSign" },
    ...noSvid("its key may sign certificates or lists"),
  },
  {
    title: "whose key may sign certificates, without a SPIFFE ID",
    certificate: { uris: [], dns: ["client.test"], keyUsage: "keyCertSign" },
    domain: "no X.509-SVID: it has no URI name",
    authority: "its key may sign certificates",
    names: "client.test",
  },
  {
    title: "whose key may sign revocation lists",
    certificate: { keyUsage: "cRLSign" },
    ...noSvid("its key may sign certificates or lists"),
  },
  {
    title: "without a path",
    certificate: { uris: ["spiffe://bunnel.test"] },
    ...noSvid("its SPIFFE ID has no path: it names a trust domain and no workload"),
    names: "spiffe://bunnel.test",
  },
  noSpiffeId("with a path of a slash", "spiffe://bunnel.test/", BAD_PATH),
  noSpiffeId("with a trailing slash", `${ID}/`, BAD_PATH),
  noSpiffeId("with an empty segment", "spiffe://bunnel.test//client", BAD_PATH),
  noSpiffeId("with a segment of dots", "spiffe://bunnel.test/x/../client", "its path has a segment of dots"),
  noSpiffeId("with percent-encoding", "spiffe://bunnel.test/cl%69ent", BAD_CHARACTER),
  noSpiffeId("with a query", `${ID}?as=admin`, BAD_CHARACTER),
  noSpiffeId("with a fragment", `${ID}#admin`, BAD_CHARACTER),
  noSpiffeId("with an upper-case trust domain", "spiffe://Bunnel.Test/client", BAD_DOMAIN),
  noSpiffeId("with an upper-case scheme", "SPIFFE://bunnel.test/client", "the scheme is not spiffe://"),
  noSpiffeId("with a port", "spiffe://bunnel.test:443/client", BAD_DOMAIN),
  noSpiffeId("with a user", "spiffe://admin@bunnel.test/client", BAD_DOMAIN),
  {
    title: "with a newline in its URI",
    certificate: { uris: [`${ID}\nURI:spiffe://bunnel.test/admin`] },
    ...both("a URI name holds a control character"),
    names: String.raw`"${ID}\nURI:spiffe://bunnel.test/admin"`,
  },
  {
    title: "with a comma in its URI",
    certificate: { uris: [`${ID}, URI:spiffe://bunnel.test/admin`] },
    ...both("a URI name holds a comma"),
    names: `"${ID}, URI:spiffe://bunnel.test/admin"`,
  },
  {
    title: "with a NUL in its URI",
    certificate: { uris: [`${ID}\0.evil`] },
    ...both("a URI name holds a NUL"),
    names: String.raw`"${ID}\u0000.evil"`,
  },
  {
    title: "with a newline in a DNS name",
    certificate: { dns: ["client.test\nadmin.test"] },
    ...both("a DNS name holds a control character"),
    names: String.raw`${ID} "client.test\nadmin.test"`,
  },
  {
    title: "with a comma in a DNS name",
    certificate: { dns: ["client.test,admin.test"] },
    ...both("a DNS name holds a comma"),
    names: `${ID} "client.test,admin.test"`,
  },
  {
    title: "with a NUL in a DNS name",
    certificate: { dns: ["client.test\0.evil.test"] },
    ...both("a DNS name holds a NUL"),
    names: String.raw`${ID} "client.test\u0000.evil.test"`,
  },
  {
    title: "outside the name constraints of its authority",
    certificate: (made) => made.constrained,
    domain: "no authority of the trust domain bunnel.test vouches for it (permitted subtree violation)",
    authority: "permitted subtree violation",
  },
  { title: "that has expired", certificate: { validMs: [-7_200_000, -3_600_000] }, ...both("CERT_HAS_EXPIRED") },
  {
    title: "that is not valid yet",
    certificate: { validMs: [3_600_000, 7_200_000] },
    ...both("CERT_NOT_YET_VALID"),
  },
  { title: "that is revoked", certificate: (made) => made.revoked, ...both("CERT_REVOKED"), withCrl: true },
  {
    title: "of an authority with the same name",
    certificate: (made) => ofSameName(made, false),
    ...both(/^(CERT_SIGNATURE_FAILURE|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT_LOCALLY)$/),
  },
  {
    title: "of an authority with the same name, which it brings along",
    certificate: (made) => ofSameName(made, true),
    ...both(/^(SELF_SIGNED_CERT_IN_CHAIN|CERT_SIGNATURE_FAILURE|UNABLE_TO_VERIFY_LEAF_SIGNATURE)$/),
  },
  {
    title: "that another client has signed",
    certificate: async (made) =>
      keepPair(made.directory, "signed-by-client", await forge(made.client, { uris: [ID] }), made.client),
    ...both(/^(INVALID_CA|INVALID_PURPOSE|UNABLE_TO_VERIFY_LEAF_SIGNATURE)$/),
  },
];

/** As `bunnel test root`, but it is another's key. */
async function ofSameName({ directory }: TestPki, withAuthority: boolean): Promise<CertificateFiles> {
  const impostor = await createAuthority({ commonName: "bunnel test root", lifetimeMs: 86_400_000 });
  const leaf = await issueCertificate(impostor, {
    uri: ID,
    commonName: "client",
    usage: "client",
    lifetimeMs: 3_600_000,
  });
  return keepPair(directory, `same-name-${withAuthority}`, leaf, ...(withAuthority ? [impostor] : []));
}

let forged = 0;

async function certificateOf({ certificate }: Pick<Refusal, "certificate">): Promise<CertificateFiles> {
  if (typeof certificate === "function") return await certificate(pki);
  forged += 1;
  return keepPair(pki.directory, `forged-${forged}`, await forge(pki.authority, { uris: [ID], ...certificate }));
}

/** Connects to a listener, and says something if it is let. */
async function show(certificate: CertificateFiles, listener: string): Promise<void> {
  const version = listener.includes("1.2") ? "-tls1_2" : "-tls1_3";
  const options = { to: await daemon.address(listener), ca: pki.authority.certificatePath, certificate };
  const command = clientCommand({ ...options, extra: [version] });
  await run([...command, "-quiet", "-no_ign_eof"], { input: "let me in\n" });
}

describe.skipIf(missing !== "")(`openssl shows a certificate ${missing}`.trim(), () => {
  /** Connections that were let in. */
  let welcome = 0;

  test("that is good, and gets in everywhere", async () => {
    const certificate = await certificateOf({ certificate: {} });
    const listeners = KINDS.flatMap((kind) =>
      VERSIONS.flatMap((version) => [`${kind}-${version}`, `${kind}-${version}-with-crl`]),
    );
    await Promise.all(listeners.map((listener) => show(certificate, listener)));
    for (const record of await daemon.recorded(listeners.length)) {
      expect(record).toMatchObject({
        close_reason: "completed",
        identity: { uri: [ID] },
        bytes_up: 10,
        bytes_down: 10,
      });
    }
    welcome = listeners.length;
  });

  for (const refusal of REFUSALS) {
    test(refusal.title, async () => {
      const before = daemon.records.length;
      const certificate = await certificateOf(refusal);
      const suffix = refusal.withCrl === true ? "-with-crl" : "";
      const tries = KINDS.flatMap((kind) =>
        VERSIONS.map((version) => ({ listener: `${kind}-${version}${suffix}`, detail: refusal[kind] })),
      );
      await Promise.all(tries.map(({ listener }) => show(certificate, listener)));
      const records = (await daemon.recorded(before + tries.length)).slice(before);
      expect(records).toHaveLength(tries.length);
      for (const { listener, detail } of tries) {
        const record = records.find((line) => line.listener === listener);
        if (detail === null) {
          expect(record?.close_reason).toBe("completed");
          welcome += 1;
          continue;
        }
        expect(record).toMatchObject({ close_reason: "certificate_rejected", bytes_up: 0, bytes_down: 0 });
        expect([listener, record?.detail]).toEqual([
          listener,
          typeof detail === "string" ? detail : expect.stringMatching(detail),
        ]);
        expect(record?.identity).toBeUndefined();
        expect(record?.backend).toBeUndefined();
        const { names = ID } = refusal;
        // Deno takes it apart all the same.
        if (names === null && IS_DENO) continue;
        if (names === null) expect(record?.refused_certificate).toBeUndefined();
        else {
          const [subject, said, ...more] = record?.refused_certificate?.split(/, (?:SANs|serial) /) ?? [];
          expect(subject).toMatch(/^subject CN=(forged|client)$/);
          expect(names === "" ? [] : [said]).toEqual(names === "" ? [] : [names]);
          expect(more).toHaveLength(names === "" ? 0 : 1);
        }
      }
    });
  }

  test("and no endpoint has seen any that was refused", async () => {
    await eventually("the endpoint had accepted", () => endpoint.peers.length >= welcome);
    expect(endpoint.peers).toHaveLength(welcome);
    expect(daemon.records).toHaveLength(8 + REFUSALS.length * KINDS.length * VERSIONS.length);
  });
});
