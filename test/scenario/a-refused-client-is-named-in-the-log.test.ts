// A client whose certificate is refused is a line in the access log all the same: with OpenSSL's reason, and with what the certificate says of
// itself, though nothing of it is believed. And no byte of such a client reaches an endpoint.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { type AccessLine, type Daemon, IS_DENO, startDaemon } from "../support/daemon.ts";
import { clientCommand } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("openssl");

let pki: TestPki;
let selfSigned: CertificateFiles;
let endpoint: Endpoint;
let daemon: Daemon;

beforeAll(async () => {
  pki = await testPki();
  if (missing === "") selfSigned = await makeSelfSigned(pki.directory);
  endpoint = await startEndpoint();
  const listener = (name: string, tls: string): string => `
  - name: ${name}
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
      ${tls}
    routes: [{ name: all, tls: terminate, policy: any, backend: echo }]`;
  daemon = await startDaemon(`
listeners:${listener("required", "")}${listener("optional", "client_auth: optional")}${listener(
    "with-crl",
    `client_crl: [${pki.revocationList.path}]`,
  )}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

/** As anybody can make one who reads a tutorial. */
async function makeSelfSigned(directory: string): Promise<CertificateFiles> {
  const [certificatePath, keyPath] = [join(directory, "tutorial.pem"), join(directory, "tutorial.key")];
  const files = ["-keyout", keyPath, "-out", certificatePath];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", "/CN=nobody"];
  const { exitCode, stderr } = await run(["openssl", "req", "-x509", ...kind, ...files]);
  if (exitCode !== 0) throw new Error(stderr);
  const [certificatePem, keyPem] = [readFileSync(certificatePath, "utf8"), readFileSync(keyPath, "utf8")];
  return { certificatePem, keyPem, certificatePath, keyPath };
}

interface Refusal {
  readonly title: string;
  readonly listener: string;
  readonly certificate: (pki: TestPki) => CertificateFiles | undefined;
  readonly detail: string | RegExp;
  readonly names: RegExp | null;
}

const BAD_CLIENT = /subject CN=client, SANs spiffe:\/\/bunnel\.test\/client, serial [0-9a-f]+/;

const REFUSALS: readonly Refusal[] = [
  {
    title: "no certificate",
    listener: "required",
    certificate: () => undefined,
    detail: "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    names: null,
  },
  ...["required", "optional"].flatMap((listener): Refusal[] => [
    {
      title: `an expired one, where one is ${listener}`,
      listener,
      certificate: ({ expired }) => expired,
      detail: "CERT_HAS_EXPIRED",
      names: BAD_CLIENT,
    },
    {
      title: `one of another authority, where one is ${listener}`,
      listener,
      certificate: ({ wrongAuthority }) => wrongAuthority,
      detail: /UNABLE_TO|SELF_SIGNED/,
      names: BAD_CLIENT,
    },
    {
      title: `a self-signed one, where one is ${listener}`,
      listener,
      certificate: () => selfSigned,
      detail: "DEPTH_ZERO_SELF_SIGNED_CERT",
      names: /subject CN=nobody, serial [0-9a-f]+/,
    },
    {
      title: `a server's, where one is ${listener}`,
      listener,
      certificate: ({ wrongUsage }) => wrongUsage,
      detail: "INVALID_PURPOSE",
      names: BAD_CLIENT,
    },
  ]),
  {
    title: "one that is not valid yet",
    listener: "required",
    certificate: ({ notYetValid }) => notYetValid,
    detail: "CERT_NOT_YET_VALID",
    names: BAD_CLIENT,
  },
  {
    title: "one on the revocation list",
    listener: "with-crl",
    certificate: ({ revoked }) => revoked,
    detail: "CERT_REVOKED",
    names: BAD_CLIENT,
  },
  {
    title: "an authority's own, whose key may not sign a handshake",
    listener: "required",
    certificate: ({ authority }) => authority,
    detail: "KEY_USAGE_BIT_INCORRECT",
    names: null,
  },
  {
    title: "one whose name only looks like another after careless splitting",
    listener: "required",
    certificate: ({ oddNames }) => oddNames,
    detail: /./,
    // Quoted, so that nobody reads two names where there is one.
    names: /SANs "spiffe:\/\/bunnel.test\/odd, URI:spiffe:\/\/bunnel.test\/client" /,
  },
];

describe.skipIf(missing !== "")(`openssl shows ${missing}`.trim(), () => {
  for (const { title, listener, certificate, detail, names } of REFUSALS) {
    test(title, async () => {
      const shown = certificate(pki);
      const before = daemon.records.length;
      const ca = pki.authority.certificatePath;
      const options = { to: await daemon.address(listener), ca };
      const command = clientCommand(shown === undefined ? options : { ...options, certificate: shown });
      await run([...command, "-quiet", "-no_ign_eof"], { input: "let me in\n" });
      const record = (await daemon.recorded(before + 1)).at(-1) as AccessLine;
      expect(record.close_reason).toBe("certificate_rejected");
      if (typeof detail === "string") expect(record.detail).toBe(detail);
      else expect(record.detail).toMatch(detail);
      // Deno looks at a certificate after the handshake, and shows it then in any case.
      if (names === null && IS_DENO && shown !== undefined) expect(record.refused_certificate).toBeDefined();
      else if (names === null) expect(record.refused_certificate).toBeUndefined();
      else expect(record.refused_certificate).toMatch(names);
      expect(record.identity).toBeUndefined();
      expect(record.bytes_up).toBe(0);
    });
  }

  test("and no endpoint has seen any of them", () => {
    expect(daemon.records).toHaveLength(REFUSALS.length);
    expect(endpoint.peers).toHaveLength(0);
  });
});
