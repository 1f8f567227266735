// `bunnel explain` says offline what a client with a certificate would get, and why: the rule that decides, or the reason for which a listener would
// refuse it. For each certificate the running daemon is asked too, and does as was said.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createAuthority, type KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { bunnel, type Daemon, startDaemon } from "../support/daemon.ts";
import { type ForgeryOptions, forge, keepPair } from "../support/forgery.ts";
import { clientCommand } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("openssl");
const HOUR_MS = 3_600_000;

let pki: TestPki;
let partner: KeyPair;
let endpoint: Endpoint;
let daemon: Daemon;
let configPath: string;

beforeAll(async () => {
  pki = await testPki();
  partner = await createAuthority({ commonName: "partner root", lifetimeMs: 24 * HOUR_MS });
  const { certificatePath } = keepPair(pki.directory, "partner", partner);
  endpoint = await startEndpoint();
  const ca = pki.authority.certificatePath;
  const domains = `trust_domains: { bunnel.test: [${ca}], partner.test: [${certificatePath}] }`;
  const listener = (name: string, tls: string, policy: string): string => `
  - name: ${name}
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }], ${tls} }
    routes: [{ name: all, tls: terminate, policy: ${policy}, backend: echo }]`;
  const rules = `[{ action: deny, uri: ["spiffe://bunnel.test/other"] }, { action: deny, cn: [nobody] }, { action: allow, uri: ["spiffe://bunnel.test/*"] }]`;
  const config = `
listeners:${[
    listener("authority", `client_ca: [${ca}]`, "rules"),
    listener("with-list", `client_ca: [${ca}], client_crl: [${pki.revocationList.path}]`, "rules"),
    listener("domains", domains, "rules"),
    listener("shadow", domains, "watched"),
    listener("optional", `client_ca: [${ca}], client_auth: optional`, "rules"),
  ].join("")}
policies:
  rules: { rules: ${rules} }
  watched: { mode: shadow, rules: ${rules} }
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
  configPath = join(pki.directory, "explain.yaml");
  writeFileSync(configPath, config);
  daemon = await startDaemon(config);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

interface Case {
  readonly title: string;
  readonly listener: string;
  readonly certificate: () => CertificateFiles | Promise<CertificateFiles> | null;
  /** The rule that decides; null where none is asked. */
  readonly rule: string | null;
  /** After `result`. */
  readonly result: string;
  /** What the log says of the refusal, where it knows more than explain, or says it in OpenSSL's words. */
  readonly logged?: string;
}

let forged = 0;

async function forgery(options: ForgeryOptions, authority: KeyPair = pki.authority): Promise<CertificateFiles> {
  forged += 1;
  return keepPair(pki.directory, `explained-${forged}`, await forge(authority, options));
}

const ID = "spiffe://bunnel.test/client";
const rejected = (reason: string): string => `closed with certificate_rejected (${reason})`;

const CASES: readonly Case[] = [
  {
    title: "an allowed one names its rule",
    listener: "authority",
    certificate: () => pki.client,
    rule: "rules: allow[2]",
    result: "relayed",
  },
  {
    title: "a denied one names its rule",
    listener: "authority",
    certificate: () => pki.otherClient,
    rule: "rules: deny[0]",
    result: "closed with policy_denied (policy rules: rule deny[0] denies it)",
  },
  {
    title: "one that no rule is about",
    listener: "authority",
    certificate: () => pki.dnsClient,
    rule: "rules: default",
    result: "closed with policy_denied (policy rules: no rule matches)",
  },
  {
    title: "none, where one is required",
    listener: "authority",
    certificate: () => null,
    rule: null,
    result: rejected("no certificate"),
    logged: "PEER_DID_NOT_RETURN_A_CERTIFICATE",
  },
  {
    title: "none, where one is optional",
    listener: "optional",
    certificate: () => null,
    rule: "rules: default",
    result: "closed with policy_denied (policy rules: no rule matches)",
  },
  {
    title: "one of an unknown authority",
    listener: "authority",
    certificate: () => pki.wrongAuthority,
    rule: null,
    result: rejected("no authority vouches for it"),
    logged: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  },
  {
    title: "a bad one, where one is optional",
    listener: "optional",
    certificate: () => pki.wrongAuthority,
    rule: null,
    result: rejected("no authority vouches for it"),
    logged: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  },
  {
    title: "a revoked one",
    listener: "with-list",
    certificate: () => pki.revoked,
    rule: null,
    result: rejected("CERT_REVOKED"),
  },
  {
    title: "one that is not on the list",
    listener: "with-list",
    certificate: () => pki.client,
    rule: "rules: allow[2]",
    result: "relayed",
  },
  {
    title: "an expired one",
    listener: "authority",
    certificate: () => pki.expired,
    rule: null,
    result: rejected("CERT_HAS_EXPIRED"),
  },
  {
    title: "one that is not valid yet",
    listener: "authority",
    certificate: () => pki.notYetValid,
    rule: null,
    result: rejected("CERT_NOT_YET_VALID"),
  },
  {
    title: "a server's",
    listener: "authority",
    certificate: () => pki.wrongUsage,
    rule: null,
    result: rejected("INVALID_PURPOSE"),
  },
  ...["authority", "domains"].map((listener): Case => {
    const reason = "no X.509-SVID: it has 2 URI names, and exactly one is allowed";
    return {
      title: `one with two URIs, at ${listener}`,
      listener,
      certificate: () => pki.twoUris,
      rule: null,
      result: rejected(reason),
    };
  }),
  {
    title: "an authority's own",
    listener: "authority",
    certificate: () => forgery({ isCa: true }),
    rule: null,
    result: rejected("it is an authority (CA=true)"),
  },
  ...["authority", "domains"].flatMap((listener): Case[] => [
    {
      title: `one with its intermediate in the file, at ${listener}`,
      listener,
      certificate: () => pki.viaIntermediate,
      rule: "rules: allow[2]",
      result: "relayed",
    },
    {
      title: `the same without its intermediate, at ${listener}`,
      listener,
      certificate: () => pki.withoutIntermediate,
      rule: null,
      result: rejected("no authority vouches for it"),
      logged: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    },
  ]),
  {
    title: "an ID that the authority of another trust domain has signed",
    listener: "domains",
    certificate: () => forgery({ uris: [ID] }, partner),
    rule: null,
    result: rejected("no authority of the trust domain bunnel.test vouches for it (permitted subtree violation)"),
  },
  {
    title: "an ID of a trust domain that is not configured",
    listener: "domains",
    certificate: () => forgery({ uris: ["spiffe://elsewhere.test/client"] }),
    rule: null,
    result: rejected("the trust domain elsewhere.test is none of those configured"),
  },
  {
    title: "an ID of the other trust domain, by its own authority",
    listener: "domains",
    certificate: () => forgery({ uris: ["spiffe://partner.test/client"] }, partner),
    rule: "rules: default",
    result: "closed with policy_denied (policy rules: no rule matches)",
  },
  {
    title: "one without a URI, where trust domains are",
    listener: "domains",
    certificate: () => pki.dnsClient,
    rule: null,
    result: rejected("no X.509-SVID: it has no URI name"),
  },
  {
    title: "a denied one under a policy in shadow mode",
    listener: "shadow",
    certificate: () => pki.otherClient,
    rule: "watched: shadow:deny[0]",
    result: "relayed",
  },
  {
    title: "one that no rule is about, in shadow mode",
    listener: "shadow",
    certificate: () => forgery({ uris: ["spiffe://partner.test/client"] }, partner),
    rule: "watched: shadow:default",
    result: "relayed",
  },
  {
    title: "an allowed one in shadow mode",
    listener: "shadow",
    certificate: () => pki.client,
    rule: "watched: allow[2]",
    result: "relayed",
  },
];

describe.each(CASES)("$title", ({ listener, certificate, rule, result, logged }) => {
  test.skipIf(missing !== "")(`is explained, and treated so ${missing}`.trim(), async () => {
    const shown = await certificate();
    const option = shown === null ? [] : ["--certificate", shown.certificatePath];
    const { exitCode, stdout, stderr } = await run(
      bunnel("explain", "-c", configPath, "--listener", listener, "--sni", "localhost", ...option),
    );
    expect(stderr).toBe("");
    const rows = new Map(
      stdout
        .trimEnd()
        .split("\n")
        .map((line): [string, string] => [line.slice(0, 13).trim(), line.slice(13)]),
    );
    expect([rows.get("route"), rows.get("policy") ?? null, rows.get("result")]).toEqual([
      "all (tls: terminate)",
      rule,
      result,
    ]);
    expect(exitCode).toBe(result === "relayed" ? 0 : 1);

    const before = daemon.records.length;
    const options = { to: await daemon.address(listener), ca: pki.authority.certificatePath, sni: "localhost" };
    const command = clientCommand(shown === null ? options : { ...options, certificate: shown });
    await run([...command, "-quiet", "-no_ign_eof"], { input: "as explained?\n" });
    const record = (await daemon.recorded(before + 1)).at(-1);
    const [, reason = "completed", detail] = /^closed with (\w+) \((.*)\)$/.exec(result) ?? [];
    expect(record?.close_reason as string).toBe(reason);
    expect(record?.detail).toBe(logged ?? detail);
    const decided = record?.policy === undefined ? null : `${record.policy}: ${record.policy_rule}`;
    expect(decided).toBe(rule);
  });
});
