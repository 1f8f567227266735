// Whether a SPIFFE folder fits together: an SVID that its own trust domain's bundle does not vouch for is refused by every peer.

import { beforeAll, expect, test } from "bun:test";
import { loadConfig } from "../../../src/config/load.ts";
import { formatProblem } from "../../../src/config/problems.ts";
import { type CompileResult, compile } from "../../../src/control/compile.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import { issueCertificate, type KeyPair } from "../../../src/tls-tools/tls-tools.ts";
import { type TestPki, testPki } from "../../support/certificates.ts";

const CONFIG = `listeners:
  - name: in
    address: 127.0.0.1:1
    tls: { spiffe_folder: svid }
    routes: [{ name: r, tls: terminate, policy: any, backend: b }]
backends: { b: { endpoints: ["127.0.0.1:80"] } }
`;
const CREDENTIAL = "svid/host.private-key.pem";
const BUNDLE = "svid/bunnel.test.spiffe-trust-bundle.pem";
const UNVOUCHED = `${CREDENTIAL}: no authority in ${BUNDLE} signed it`;

let pki: TestPki;
let svid: KeyPair;
let viaIntermediate: KeyPair;

beforeAll(async () => {
  pki = await testPki();
  const options = { usage: "both", lifetimeMs: 86_400_000, uri: "spiffe://bunnel.test/host" } as const;
  svid = await issueCertificate(pki.authority, options);
  viaIntermediate = await issueCertificate(pki.intermediate, options);
});

function folder(credential: string, bundles: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  const named = Object.entries(bundles).map(
    ([domain, pem]) => [`svid/${domain}.spiffe-trust-bundle.pem`, pem] as const,
  );
  return new Map([[CREDENTIAL, credential], ...named]);
}

function compiled(
  contents: ReadonlyMap<string, string>,
  served: ReadonlyMap<string, string> | null,
): Promise<CompileResult> {
  const loaded = loadConfig(CONFIG, { file: "f.yaml", environment: {} });
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join("\n"));
  const files = {
    readText: (path: string) => contents.get(path) ?? "",
    list: () => [...contents.keys()].map((path) => path.slice("svid/".length)).sort(),
    stamp: () => "",
  };
  const options = { generation: 1, files, runtime, resolve: null, slots: new Map(), nowMs: Date.now(), served };
  return compile(loaded, options);
}

/** What is said of a folder at a start, where it is taken, and when it would replace another. */
async function verdict(contents: ReadonlyMap<string, string>): Promise<{ warnings: string; problems: string }> {
  const first = await compiled(contents, null);
  if (!first.ok) throw new Error(first.problems.map(formatProblem).join("\n"));
  const next = await compiled(contents, new Map());
  return {
    warnings: first.warnings.map(formatProblem).join("\n"),
    problems: next.ok ? "" : next.problems.map(formatProblem).join("\n"),
  };
}

test("an SVID that its bundle vouches for, directly or through its chain, is taken without a word", async () => {
  const root = pki.authority.certificatePem;
  const direct = folder(svid.keyPem + svid.certificatePem, { "bunnel.test": root });
  const { keyPem, certificatePem } = viaIntermediate;
  const through = folder(keyPem + certificatePem + pki.intermediate.certificatePem, { "bunnel.test": root });
  for (const contents of [direct, through]) expect(await verdict(contents)).toEqual({ warnings: "", problems: "" });
});

test("one whose domain has no bundle is refused, and a warning at a start", async () => {
  const contents = folder(svid.keyPem + svid.certificatePem, { "other.test": pki.authority.certificatePem });
  const { warnings, problems } = await verdict(contents);
  for (const said of [warnings, problems])
    expect(said).toContain(`${CREDENTIAL}: is of "bunnel.test", which has no trust bundle here: ${BUNDLE}`);
});

test("one that only the bundle of another domain vouches for, or none, or one that its chain does not lead to, likewise", async () => {
  const other = pki.otherAuthority.certificatePem;
  const alone = viaIntermediate.keyPem + viaIntermediate.certificatePem;
  const cases = [
    folder(svid.keyPem + svid.certificatePem, { "bunnel.test": other }),
    folder(svid.keyPem + svid.certificatePem, { "bunnel.test": other, "other.test": pki.authority.certificatePem }),
    folder(alone, { "bunnel.test": pki.authority.certificatePem }),
    // The intermediate is there, but it signed something else.
    folder(alone + pki.otherAuthority.certificatePem, { "bunnel.test": other }),
  ];
  for (const contents of cases) {
    const { warnings, problems } = await verdict(contents);
    for (const said of [warnings, problems]) expect(said).toContain(UNVOUCHED);
  }
});

test("one that is served already is a warning, and an error again when its bundle changes", async () => {
  const contents = folder(svid.keyPem + svid.certificatePem, { "bunnel.test": pki.otherAuthority.certificatePem });
  const same = await compiled(contents, contents);
  expect(same.ok ? same.warnings.map(formatProblem).join() : "").toContain(UNVOUCHED);
  const before = new Map(contents).set(BUNDLE, pki.authority.certificatePem);
  expect((await compiled(contents, before)).ok).toBe(false);
});
