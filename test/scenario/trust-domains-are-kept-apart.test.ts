// Each trust domain's bundle vouches for names of that trust domain and for no others, on both sides: an ID of A that B's authority has signed is
// refused, directly, through intermediates and by a resumed session, though both bundles are configured for the same listener or backend.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createAuthority, type KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { Child, run } from "../support/child.ts";
import { type AccessLine, bunnel, type Daemon, IS_DENO, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { type ForgeryOptions, forge, keepPair } from "../support/forgery.ts";
import { clientCommand } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { connectTo, type Endpoint, startEndpoint } from "../support/tcp.ts";
import { startTlsEndpoint, type TlsEndpoint } from "../support/tls-endpoint.ts";

const missing = missingPrograms("openssl");
const DAY_MS = 86_400_000;
/** Many certificates and listeners, on a machine that may be busy. */
const START_PATIENCE_MS = 20_000;
const DOMAINS = ["a.test", "b.test"] as const;
type Domain = (typeof DOMAINS)[number];

const RULES = `[{ action: deny, uri: ["spiffe://a.test/bad"] }, { action: allow, uri: ["spiffe://a.test/*"] }]`;

/** The authorities of a trust domain. */
interface Authorities {
  readonly root: CertificateFiles;
  readonly intermediate: KeyPair;
}

let pki: TestPki;
let authorities: Record<Domain, Authorities>;
/** Roots of both domains whose subjects are the same. */
let namesakes: Record<Domain, CertificateFiles>;

beforeAll(async () => {
  pki = await testPki();
  const make = async (domain: Domain): Promise<Authorities> => {
    const root = await createAuthority({ commonName: `root of ${domain}`, lifetimeMs: 30 * DAY_MS });
    const commonName = `intermediate of ${domain}`;
    const intermediate = await createAuthority({ commonName, lifetimeMs: 20 * DAY_MS, issuer: root });
    return { root: keepPair(pki.directory, domain, root), intermediate };
  };
  const namesake = async (domain: Domain): Promise<CertificateFiles> =>
    keepPair(pki.directory, `namesake-${domain}`, await createAuthority({ commonName: "SPIRE", lifetimeMs: DAY_MS }));
  authorities = { "a.test": await make("a.test"), "b.test": await make("b.test") };
  namesakes = { "a.test": await namesake("a.test"), "b.test": await namesake("b.test") };
}, START_PATIENCE_MS);

function bundles(roots: (domain: Domain) => CertificateFiles, domains: readonly Domain[] = DOMAINS): string {
  return `{ ${domains.map((domain) => `${domain}: [${roots(domain).certificatePath}]`).join(", ")} }`;
}

/** Who is shown, and what becomes of it: "" when it is let in. */
interface Shown {
  readonly title: string;
  readonly names: Pick<ForgeryOptions, "uris" | "dns">;
  readonly signedBy: Domain;
  readonly through?: "intermediate" | "intermediate that is not sent" | "namesake";
  readonly refusal: string;
}

const id = (domain: string): ForgeryOptions => ({ uris: [`spiffe://${domain}/peer`] });
const notBy = (domain: Domain): string =>
  `no authority of the trust domain ${domain} vouches for it (permitted subtree violation)`;

const SHOWN: readonly Shown[] = DOMAINS.flatMap((domain): Shown[] => {
  const other = domain === "a.test" ? "b.test" : "a.test";
  return [
    { title: `${domain} of its own root`, names: id(domain), signedBy: domain, refusal: "" },
    { title: `${domain} of the other root`, names: id(domain), signedBy: other, refusal: notBy(domain) },
    {
      title: `${domain} of its own intermediate`,
      names: id(domain),
      signedBy: domain,
      through: "intermediate",
      refusal: "",
    },
    {
      title: `${domain} of the other's intermediate`,
      names: id(domain),
      signedBy: other,
      through: "intermediate",
      refusal: notBy(domain),
    },
    {
      title: `${domain} of its own intermediate, left out`,
      names: id(domain),
      signedBy: domain,
      through: "intermediate that is not sent",
      refusal: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    },
    {
      title: `a part of ${domain} of its root`,
      names: id(`part.${domain}`),
      signedBy: domain,
      refusal: `the trust domain part.${domain} is none of those configured`,
    },
    {
      title: `an unknown domain of the root of ${domain}`,
      names: id("c.test"),
      signedBy: domain,
      refusal: "the trust domain c.test is none of those configured",
    },
    {
      title: `no URI, of the root of ${domain}`,
      names: { dns: ["peer.test"] },
      signedBy: domain,
      refusal: "no X.509-SVID: it has no URI name",
    },
  ];
});

const NAMESAKES: readonly Shown[] = DOMAINS.flatMap((domain): Shown[] => {
  const other = domain === "a.test" ? "b.test" : "a.test";
  return [
    { title: `${domain} of its own root`, names: id(domain), signedBy: domain, through: "namesake", refusal: "" },
    {
      title: `${domain} of the other root`,
      names: id(domain),
      signedBy: other,
      through: "namesake",
      refusal: notBy(domain),
    },
  ];
});

/** Each has a listener of its own, by which its record is found, so that nobody waits for another's. */
const CLIENTS = (["-tls1_3", "-tls1_2"] as const).flatMap((version) =>
  [
    ...SHOWN.map((shown) => ({ ...shown, bundle: "both" as const })),
    ...NAMESAKES.map((shown) => ({ ...shown, bundle: "namesakes" as const })),
  ].map((shown, index) => ({ ...shown, version, listener: `client${version}-${index}` })),
);

let issued = 0;

async function issue({ names, signedBy, through }: Omit<Shown, "title" | "refusal">, usage: "client" | "server") {
  const { root, intermediate } = authorities[signedBy];
  const issuer = through === undefined ? root : through === "namesake" ? namesakes[signedBy] : intermediate;
  const sent = through === "intermediate" ? [intermediate] : [];
  issued += 1;
  return keepPair(pki.directory, `peer-${issued}`, await forge(issuer, { ...names, usage }), ...sent);
}

describe.skipIf(missing !== "")(`clients ${missing}`.trim(), () => {
  let endpoint: Endpoint;
  let daemon: Daemon;

  beforeAll(async () => {
    endpoint = await startEndpoint();
    const certificates = `certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]`;
    const own = (domain: Domain): string => bundles((one) => authorities[one].root, [domain]);
    const listener = (name: string, tls: string, routes: string): string => `
  - name: ${name}
    address: 127.0.0.1:0
    tls: { ${certificates}, ${tls} }
    routes: ${routes}`;
    const both = `trust_domains: ${bundles((domain) => authorities[domain].root)}${IS_DENO ? "" : ", session_tickets: true"}`;
    const same = `trust_domains: ${bundles((domain) => namesakes[domain])}`;
    const routed = (policy: string): string => `[{ name: all, tls: terminate, policy: ${policy}, backend: echo }]`;
    daemon = await startDaemon(`
listeners:${CLIENTS.map((client) => listener(client.listener, client.bundle === "both" ? both : same, routed("any"))).join("")}
${listener("enforced", both, routed("enforced"))}${listener("shadowed", both, routed("shadowed"))}${listener(
  "by-sni",
  both,
  `
      - { name: a, match: { sni: [a.test] }, tls: terminate, terminate: { trust_domains: ${own("a.test")} }, policy: any, backend: echo }
      - { name: b, match: { sni: [b.test] }, tls: terminate, terminate: { trust_domains: ${own("b.test")} }, policy: any, backend: echo }`,
)}
policies:
  enforced: { rules: ${RULES} }
  shadowed: { mode: shadow, rules: ${RULES} }
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  }, START_PATIENCE_MS);

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
    await endpoint?.[Symbol.asyncDispose]();
  });

  /** What became of a client that says something and waits for its echo, or for its end. */
  async function tell(
    listener: string,
    certificate: CertificateFiles | undefined,
    { sni, extra = [] }: { readonly sni?: string; readonly extra?: readonly string[] } = {},
  ): Promise<AccessLine> {
    // Ports are many here, and whoever looks for something else may knock at one: that says nothing.
    const records = (): AccessLine[] =>
      daemon.records.filter((line) => line.listener === listener && line.phase !== "peek");
    const before = records().length;
    const options = { to: await daemon.address(listener), ca: pki.authority.certificatePath, extra };
    const shown = { ...options, ...(sni !== undefined && { sni }), ...(certificate !== undefined && { certificate }) };
    await using client = new Child([...clientCommand(shown), "-quiet", "-no_ign_eof"]);
    client.write("is it me\n");
    await eventually(
      () => `an answer: ${client.story}`,
      () => client.hasExited || client.stdout.includes("is it me"),
    );
    client.endInput();
    await client.exited;
    return await eventually(
      () => `a record of ${listener}: ${daemon.child.story}`,
      () => records()[before],
    );
  }

  for (const { version, listener, bundle, title, refusal, ...shown } of CLIENTS) {
    test.concurrent(`${version} ${bundle}: ${title}`, async () => {
      const record = await tell(listener, await issue(shown, "client"), { extra: [version] });
      if (refusal === "")
        expect(record).toMatchObject({ close_reason: "completed", identity: { uri: shown.names.uris } });
      else {
        expect(record).toMatchObject({ close_reason: "certificate_rejected", detail: refusal, bytes_up: 0 });
        expect(record.identity).toBeUndefined();
      }
    });
  }

  describe.each(["-tls1_3", "-tls1_2"])("%s", (version) => {
    test("a resumed session is who it was, and no other bundle takes it", async () => {
      const a = await issue({ names: id("a.test"), signedBy: "a.test" }, "client");
      const b = await issue({ names: id("b.test"), signedBy: "b.test" }, "client");
      const session = join(pki.directory, `session${version}`);
      const keeping = { sni: "a.test", extra: [version, "-sess_out", session] };
      expect(await tell("by-sni", a, keeping)).toMatchObject({ route: "a", close_reason: "completed" });
      const resuming = [version, "-sess_in", session];
      expect(await tell("by-sni", b, { sni: "a.test", extra: resuming })).toMatchObject({
        route: "a",
        close_reason: "completed",
        tls_resumed: true,
        identity: { uri: ["spiffe://a.test/peer"] },
      });
      // To the other route it is nothing: who connects there shows a certificate that its own bundle vouches for.
      expect(await tell("by-sni", a, { sni: "b.test", extra: resuming })).toMatchObject({
        route: "b",
        close_reason: "certificate_rejected",
        bytes_up: 0,
      });
      expect(await tell("by-sni", undefined, { sni: "b.test", extra: resuming })).toMatchObject({
        route: "b",
        close_reason: "certificate_rejected",
        detail: "PEER_DID_NOT_RETURN_A_CERTIFICATE",
      });
      const record = await tell("by-sni", b, { sni: "b.test", extra: resuming });
      expect(record).toMatchObject({ close_reason: "completed", identity: { uri: ["spiffe://b.test/peer"] } });
      expect(record.tls_resumed ?? false).toBe(false);
    });
  });

  test.each([
    ["spiffe://a.test/peer", "a.test", "allow[1]"],
    ["spiffe://a.test/bad", "a.test", "deny[0]"],
    ["spiffe://b.test/peer", "b.test", "default"],
  ] as const)("%s by policy: the log names the rule, and shadow mode refuses nobody", async (uri, signedBy, rule) => {
    const certificate = await issue({ names: { uris: [uri] }, signedBy }, "client");
    const allowed = rule.startsWith("allow");
    expect(await tell("enforced", certificate)).toMatchObject({
      close_reason: allowed ? "completed" : "policy_denied",
      identity: { uri: [uri] },
      policy: "enforced",
      policy_rule: rule,
    });
    expect(await tell("shadowed", certificate)).toMatchObject({
      close_reason: "completed",
      identity: { uri: [uri] },
      policy: "shadowed",
      policy_rule: allowed ? rule : `shadow:${rule}`,
    });
  });

  test("shadow mode is for policies: who no bundle vouches for is refused all the same", async () => {
    const certificate = await issue({ names: id("a.test"), signedBy: "b.test" }, "client");
    const record = await tell("shadowed", certificate);
    expect(record).toMatchObject({ close_reason: "certificate_rejected", bytes_up: 0 });
    expect(record.policy_rule).toBeUndefined();
  });
});

describe("endpoints", () => {
  const cases = [
    ...SHOWN.map((shown) => ({ ...shown, bundle: "both" })),
    ...NAMESAKES.map((shown) => ({ ...shown, bundle: "namesakes" })),
    {
      title: "of its own root, but another one",
      names: { uris: ["spiffe://a.test/another"] },
      signedBy: "a.test",
      bundle: "both",
      refusal: "no URI name matches verify.uri",
    } satisfies Shown & { bundle: string },
  ] as (Shown & { bundle: string })[];
  const endpoints: TlsEndpoint[] = [];
  let daemon: Daemon;

  beforeAll(async () => {
    for (const shown of cases) {
      const onConnection = ({ socket }: { readonly socket: NodeJS.ReadWriteStream }): void => void socket.pipe(socket);
      endpoints.push(await startTlsEndpoint(await issue(shown, "server"), { onConnection }));
    }
    const roots = {
      both: bundles((domain) => authorities[domain].root),
      namesakes: bundles((domain) => namesakes[domain]),
    };
    // Every name that is shown, so that nothing but who vouches for it decides.
    const verify = `verify: { uri: ["spiffe://a.test/peer", "spiffe://b.test/*", "spiffe://part.a.test/*", "spiffe://part.b.test/*", "spiffe://c.test/*"] }`;
    daemon = await startDaemon(`
listeners:
${cases.map((_, index) => `  - { name: to-${index}, address: 127.0.0.1:0, backend: is-${index} }`).join("\n")}
backends:
${cases
  .map(
    ({ bundle }, index) =>
      `  is-${index}: { endpoints: ["${endpoints[index]?.address}"], connect_attempts: 1, tls: { trust_domains: ${roots[bundle as keyof typeof roots]}, ${verify} } }`,
  )
  .join("\n")}
`);
  }, START_PATIENCE_MS);

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
    for (const endpoint of endpoints) await endpoint[Symbol.asyncDispose]();
  });

  test.concurrent.each(cases.map((shown, index) => [`${shown.bundle}: ${shown.title}`, shown, index] as const))(
    "%s",
    async (_, { refusal }, index) => {
      const client = await connectTo(await daemon.address(`to-${index}`));
      client.socket.end("hello");
      const record = await daemon.record(({ listener }) => listener === `to-${index}`);
      if (refusal === "") {
        expect(record).toMatchObject({ close_reason: "completed", bytes_up: 5, bytes_down: 5 });
        return;
      }
      expect(record.close_reason).toBe("upstream_certificate_rejected");
      expect(record.detail).toStartWith(`${endpoints[index]?.address}: ${refusal}; subject CN=forged`);
      expect(endpoints[index]?.sessions.flatMap(({ chunks }) => chunks)).toEqual([]);
    },
  );
});

test("an authority in two bundles is refused before anything is opened", async () => {
  const { certificatePath } = authorities["a.test"].root;
  const domains = `{ a.test: [${certificatePath}], b.test: [${certificatePath}] }`;
  const path = join(pki.directory, "merged.yaml");
  writeFileSync(
    path,
    `listeners: [{ name: in, address: "127.0.0.1:0", backend: out }]
backends:
  out: { endpoints: ["127.0.0.1:9"], tls: { trust_domains: ${domains} } }
`,
  );
  for (const command of ["check", "run"]) {
    const { exitCode, stderr } = await run(bunnel(command, "-c", path));
    expect(exitCode).toBe(78);
    expect(stderr).toContain(
      'backends.out.tls.trust_domains.b.test: an authority here (CN=root of a.test) is also one of "a.test"',
    );
  }
});
