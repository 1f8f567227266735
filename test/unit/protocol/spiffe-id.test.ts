import { describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import fc from "fast-check";
import { readCertificateDetails } from "../../../src/protocol/certificate-details.ts";
import { parseSpiffeId, type SvidFields, svidProblem, trustDomainProblem } from "../../../src/protocol/spiffe-id.ts";
import { testPki } from "../../support/certificates.ts";

const pki = await testPki();
const BAD_DOMAIN = "a trust domain has only a-z, 0-9, dots, hyphens and underscores";
const BAD_PATH = "its path has a character other than letters, digits, dots, hyphens and underscores";

describe("SPIFFE IDs", () => {
  test.each([
    ["spiffe://prod.example.org/ns/a/sa/b", "prod.example.org", "/ns/a/sa/b"],
    ["spiffe://prod/web", "prod", "/web"],
    ["spiffe://prod", "prod", ""],
    ["spiffe://1-2_3.4/A-z_0.9", "1-2_3.4", "/A-z_0.9"],
    ["spiffe://prod/...", "prod", "/..."],
    ["spiffe://prod/.a/b..", "prod", "/.a/b.."],
    [`spiffe://${"d".repeat(255)}/a`, "d".repeat(255), "/a"],
    [`spiffe://prod/${"a".repeat(2048 - 14)}`, "prod", `/${"a".repeat(2048 - 14)}`],
  ])("%s", (uri, trustDomain, path) => {
    expect(parseSpiffeId(uri)).toEqual({ trustDomain, path });
  });

  test.each([
    ["", "the scheme is not spiffe://"],
    ["SPIFFE://prod/web", "the scheme is not spiffe://"],
    ["spiffe:/prod/web", "the scheme is not spiffe://"],
    ["https://prod/web", "the scheme is not spiffe://"],
    [" spiffe://prod/web", "the scheme is not spiffe://"],
    ["spiffe://", "the trust domain is empty"],
    ["spiffe:///web", "the trust domain is empty"],
    [`spiffe://${"d".repeat(256)}/a`, "the trust domain is longer than 255 bytes"],
    ["spiffe://Prod/web", BAD_DOMAIN],
    ["spiffe://prod:443/web", BAD_DOMAIN],
    ["spiffe://user@prod/web", BAD_DOMAIN],
    ["spiffe://prod%2ea/web", BAD_DOMAIN],
    ["spiffe://prod?a", BAD_DOMAIN],
    ["spiffe://prod#a", BAD_DOMAIN],
    ["spiffe://[::1]/web", BAD_DOMAIN],
    ["spiffe://prod\n/web", BAD_DOMAIN],
    ["spiffe://prod\n", BAD_DOMAIN],
    ["spiffe://bücher/web", BAD_DOMAIN],
    ["spiffe://prod/", "its path has an empty segment or ends in a slash"],
    ["spiffe://prod/web/", "its path has an empty segment or ends in a slash"],
    ["spiffe://prod//web", "its path has an empty segment or ends in a slash"],
    ["spiffe://prod/a//b", "its path has an empty segment or ends in a slash"],
    ["spiffe://prod/./web", "its path has a segment of dots"],
    ["spiffe://prod/a/..", "its path has a segment of dots"],
    ["spiffe://prod/a%2fb", BAD_PATH],
    ["spiffe://prod/a?b", BAD_PATH],
    ["spiffe://prod/a#b", BAD_PATH],
    ["spiffe://prod/a b", BAD_PATH],
    ["spiffe://prod/a\\b", BAD_PATH],
    ["spiffe://prod/*", BAD_PATH],
    ["spiffe://prod/a\n", BAD_PATH],
    ["spiffe://prod/a\0", BAD_PATH],
    ["spiffe://prod/ä", BAD_PATH],
    [`spiffe://prod/${"a".repeat(2048 - 13)}`, "it is longer than 2048 bytes"],
  ])("%j is none", (uri, problem) => {
    expect(parseSpiffeId(uri)).toBe(problem);
  });

  test("what is read is the text again, whatever the text", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.stringMatching(/^spiffe:\/\/[a-z.]{0,5}(\/[a-zA-Z.%]{0,3}){0,4}$/),
    );
    fc.assert(
      fc.property(text, (uri) => {
        const id = parseSpiffeId(uri);
        if (typeof id === "string") expect(id).toMatch(/^[ -~]+$/);
        else {
          expect(`spiffe://${id.trustDomain}${id.path}`).toBe(uri);
          // A reader of URIs sees the same, with nothing besides: no two spellings for one workload.
          const url = new URL(uri);
          expect([url.pathname, url.search, url.hash, url.port, url.username]).toEqual([id.path, "", "", "", ""]);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("the names of trust domains", () => {
    for (const name of ["prod", "a.b-c_d", "0", "d".repeat(255)]) expect(trustDomainProblem(name)).toBe("");
    expect(trustDomainProblem("")).toBe("the trust domain is empty");
    expect(trustDomainProblem("d".repeat(256))).toBe("the trust domain is longer than 255 bytes");
    for (const name of ["Prod", "a/b", "spiffe://a", "a:1", "a\n", "*"]) expect(trustDomainProblem(name)).not.toBe("");
  });
});

describe("X.509-SVIDs", () => {
  const good: SvidFields = {
    uris: ["spiffe://prod/web"],
    isCa: false,
    keyUsage: { digitalSignature: true, keyCertSign: false, crlSign: false },
  };
  const usage = (change: Partial<NonNullable<SvidFields["keyUsage"]>>): Partial<SvidFields> => ({
    keyUsage: { digitalSignature: true, keyCertSign: false, crlSign: false, ...change },
  });

  test.each<[string, Partial<SvidFields>]>([
    ["", {}],
    ["", { keyUsage: null }],
    ["it has no URI name", { uris: [] }],
    ["it has 2 URI names, and exactly one is allowed", { uris: ["spiffe://prod/web", "spiffe://prod/web"] }],
    ["it has 2 URI names, and exactly one is allowed", { uris: ["spiffe://prod/web", "https://prod"] }],
    ["its URI name is no SPIFFE ID: the scheme is not spiffe://", { uris: ["https://prod/web"] }],
    ["its SPIFFE ID has no path: it names a trust domain and no workload", { uris: ["spiffe://prod"] }],
    ["it is an authority (CA=true)", { isCa: true }],
    ["its key may sign certificates or lists", usage({ keyCertSign: true })],
    ["its key may sign certificates or lists", usage({ crlSign: true })],
    ["its key may not make digital signatures", usage({ digitalSignature: false })],
  ])("%j", (problem, change) => {
    expect(svidProblem({ ...good, ...change })).toBe(problem);
  });

  test.each([
    ["client", ""],
    ["viaIntermediate", ""],
    ["dnsClient", "it has no URI name"],
    ["twoUris", "it has 2 URI names, and exactly one is allowed"],
    ["selfSigned", "it has no URI name"],
    ["oddNames", "it has 4 URI names, and exactly one is allowed"],
  ] as const)("the certificate %s", (name, problem) => {
    const details = readCertificateDetails(new Uint8Array(new X509Certificate(pki[name].certificatePem).raw));
    expect(details === null ? "malformed" : svidProblem(details)).toBe(problem);
  });
});
