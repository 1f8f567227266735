// Who shows a certificate has to prove, in the same handshake, that the key is its own: proofs by other keys, of other handshakes and in other forms,
// none at all, chains out of order and handshakes that are not ended are refused, and nothing that such a client says reaches an endpoint.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { type AccessLine, type Daemon, IS_DENO, startDaemon } from "../support/daemon.ts";
import { missingPrograms } from "../support/programs.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";
import { ByHand, MESSAGE } from "../support/tls-by-hand.ts";
import { ByHand12 } from "../support/tls12-by-hand.ts";

const missing = missingPrograms("openssl");

let pki: TestPki;
let endpoint: Endpoint;
let daemon: Daemon;
/** Of the authority, for the key of `pki.client`: PEM. */
let firstVersion: string;

/** DER of all certificates of a file. */
function dersOf({ certificatePem }: CertificateFiles): Uint8Array[] {
  return certificatePem.split(/(?<=-----END CERTIFICATE-----\n)/).map((pem) => new X509Certificate(pem).raw);
}

type Client = ByHand | ByHand12;
type Version = "1.2" | "1.3";

function connect(version: Version, to: string): Promise<Client> {
  return version === "1.3" ? ByHand.connect(to) : ByHand12.connect(to);
}

interface Crafted {
  readonly name: string;
  /** What the log says on either runtime, where it says the same. */
  readonly detail?: string;
  /** There is nothing like it in TLS 1.2. */
  readonly only13?: true;
  act(client: Client): void;
}

/** Each says "must not pass" afterwards. */
const REFUSED: readonly Crafted[] = [
  {
    name: "a proof by the key of another certificate of the same authority",
    detail: "BAD_SIGNATURE",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.otherClient.keyPem);
      client.finish();
    },
  },
  {
    name: "a proof by a key that is nobody's",
    detail: "BAD_SIGNATURE",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.wrongAuthority.keyPem);
      client.finish();
    },
  },
  {
    name: "a proof of another handshake",
    detail: "BAD_SIGNATURE",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.client.keyPem, { transcript: Buffer.from("another one") });
      client.finish();
    },
  },
  {
    name: "a server's proof",
    only13: true,
    detail: "BAD_SIGNATURE",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.client.keyPem, { context: "TLS 1.3, server CertificateVerify" });
      client.finish();
    },
  },
  {
    name: "a proof that calls itself RSA's",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.client.keyPem, { scheme: 0x0804 });
      client.finish();
    },
  },
  {
    name: "a proof that calls itself SHA-1's",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.client.keyPem, { scheme: 0x0203 });
      client.finish();
    },
  },
  {
    name: "an empty proof",
    act(client) {
      client.show(dersOf(pki.client));
      client.say(MESSAGE.CERTIFICATE_VERIFY, Buffer.from([4, 3, 0, 0]));
      client.finish();
    },
  },
  {
    name: "no proof",
    act(client) {
      client.show(dersOf(pki.client));
      client.finish();
    },
  },
  {
    name: "a proof before the certificate",
    act(client) {
      client.prove(pki.client.keyPem);
      client.show(dersOf(pki.client));
      client.finish();
    },
  },
  {
    name: "a certificate of its own, then, unproven, somebody else's",
    act(client) {
      client.show(dersOf(pki.otherClient));
      client.prove(pki.otherClient.keyPem);
      client.show(dersOf(pki.client));
      client.finish();
    },
  },
  {
    name: "somebody else's certificate, with its own behind it",
    detail: "BAD_SIGNATURE",
    act(client) {
      client.show([...dersOf(pki.client), ...dersOf(pki.otherClient)]);
      client.prove(pki.otherClient.keyPem);
      client.finish();
    },
  },
  {
    name: "a chain with its leaf second",
    act(client) {
      const [leaf, intermediate] = dersOf(pki.viaIntermediate);
      client.show([intermediate as Uint8Array, leaf as Uint8Array]);
      client.prove(pki.viaIntermediate.keyPem);
      client.finish();
    },
  },
  {
    name: "an authority's certificate",
    act(client) {
      client.show(dersOf(pki.authority));
      client.prove(pki.client.keyPem);
      client.finish();
    },
  },
  {
    name: "a certificate of no length",
    act(client) {
      client.show([new Uint8Array(0)]);
      client.prove(pki.client.keyPem);
      client.finish();
    },
  },
  {
    name: "a certificate with a byte behind it",
    act(client) {
      const [leaf = new Uint8Array(0)] = dersOf(pki.client);
      client.show([Uint8Array.of(...leaf, 0)]);
      client.prove(pki.client.keyPem);
      client.finish();
    },
  },
  {
    // Deno's library does not look at the proof of a certificate that it cannot read.
    name: "somebody else's certificate of version 1",
    act(client) {
      client.show([new X509Certificate(firstVersion).raw]);
      client.prove(pki.otherClient.keyPem);
      client.finish();
    },
  },
  {
    name: "garbage behind its certificate",
    act(client) {
      client.show([...dersOf(pki.client), Uint8Array.of(1, 2, 3)]);
      client.prove(pki.client.keyPem);
      client.finish();
    },
  },
  {
    name: "an empty list and a proof",
    act(client) {
      client.show([]);
      client.prove(pki.client.keyPem);
      client.finish();
    },
  },
  {
    name: "no list at all",
    act(client) {
      client.finish();
    },
  },
  {
    name: "an end that is wrong",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.client.keyPem);
      client.finish(true);
    },
  },
  {
    name: "no end",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.client.keyPem);
    },
  },
  {
    name: "data before the end",
    act(client) {
      client.show(dersOf(pki.client));
      client.prove(pki.client.keyPem);
      client.speak("must not pass", { early: true });
      client.finish();
    },
  },
];

const LISTENERS = ["required", "optional"] as const;
const VERSIONS = ["1.3", "1.2"] as const;

/** Each has a listener of its own, by which its record is found. */
const ATTEMPTS = LISTENERS.flatMap((auth) =>
  VERSIONS.flatMap((version) =>
    REFUSED.filter(({ only13 }) => version === "1.3" || !only13).map((crafted, index) => ({
      ...crafted,
      auth,
      version,
      listener: `${auth}-${version}-${index}`,
    })),
  ),
);

beforeAll(async () => {
  if (missing !== "") return;
  pki = await testPki();
  const request = ["openssl", "req", "-new", "-key", pki.client.keyPath, "-subj", "/CN=client"];
  const sign = ["openssl", "x509", "-req", "-CA", pki.authority.certificatePath, "-CAkey", pki.authority.keyPath];
  firstVersion = (await run([...sign, "-days", "2"], { input: (await run(request)).stdout })).stdout;
  endpoint = await startEndpoint();
  const listener = (name: string, clientAuth: string): string => `
  - name: ${name}
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_auth: ${clientAuth}
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: all, tls: terminate, policy: any, backend: echo }]`;
  const names = ATTEMPTS.map((attempt) => listener(attempt.listener, attempt.auth));
  daemon = await startDaemon(`
listeners:${names.join("")}${listener("required", "required")}${listener("optional", "optional")}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  // Many listeners, on a machine that may be busy.
}, 20_000);

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

describe.skipIf(missing !== "")(`nothing is heard of a client with ${missing}`.trim(), () => {
  for (const { name, detail, act, auth, version, listener } of ATTEMPTS) {
    test.concurrent(`${name}, by TLS ${version}, where a certificate is ${auth}`, async () => {
      const client = await connect(version, await daemon.address(listener));
      expect(client.wasAsked).toBe(true);
      act(client);
      client.speak("must not pass");
      expect(await client.answer()).toBe("");
      const record = await recordOf(listener);
      client.destroy();
      expect(record.detail).toMatch(detail ?? /./);
      expect(record.close_reason).toBeOneOf(["handshake_failed", "certificate_rejected"]);
      expect([record.bytes_up, record.bytes_down, record.identity, record.endpoint]).toEqual([
        0,
        0,
        undefined,
        undefined,
      ]);
    });
  }
});

interface Honest {
  readonly name: string;
  shown(): readonly Uint8Array[];
  readonly context?: Buffer;
}

const LET_IN: readonly Honest[] = [
  { name: "a certificate and its key", shown: () => dersOf(pki.client) },
  { name: "the same certificate twice", shown: () => [...dersOf(pki.client), ...dersOf(pki.client)] },
  {
    name: "somebody else's certificate behind its own",
    shown: () => [...dersOf(pki.client), ...dersOf(pki.otherClient)],
  },
  // RFC 8446, 4.4.2: the question's context has to be given back. Deno's library does not look; the proof covers it all the same.
  ...(IS_DENO
    ? [{ name: "an answer to another question", shown: () => dersOf(pki.client), context: Buffer.from("another") }]
    : []),
];

describe.skipIf(missing !== "")("who shows and proves what it should is who its first certificate says", () => {
  const seen = new Set<string>();
  const honest = VERSIONS.flatMap((version) => LET_IN.map((one) => ({ ...one, version })));
  for (const { name, version, shown, context } of honest) {
    test(`${name}, by TLS ${version}`, async () => {
      const client = await connect(version, await daemon.address("required"));
      client.show(shown(), context);
      client.prove(pki.client.keyPem);
      client.finish();
      client.speak("who am I");
      expect(await client.answer()).toBe("who am I");
      client.destroy();
      const record = await recordOf("required", ({ id }) => !seen.has(id));
      seen.add(record.id);
      expect(record.identity?.uri).toEqual(["spiffe://bunnel.test/client"]);
    });
  }

  test("who shows nothing is nobody where a certificate is optional, and refused where it is not", async () => {
    for (const [auth, version] of LISTENERS.flatMap((one) => VERSIONS.map((each) => [one, each] as const))) {
      const client = await connect(version, await daemon.address(auth));
      client.show([]);
      client.finish();
      client.speak("who am I");
      expect(await client.answer()).toBe(auth === "optional" ? "who am I" : "");
      client.destroy();
    }
    expect((await daemon.record(({ listener }) => listener === "optional")).identity).toBeUndefined();
  });
});

/** Ports are many here, and whoever looks for something else may knock at one: that says nothing. */
function recordOf(listener: string, fits: (line: AccessLine) => boolean = () => true): Promise<AccessLine> {
  return daemon.record((line) => line.listener === listener && line.phase !== "peek" && fits(line));
}
