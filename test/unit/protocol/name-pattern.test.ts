import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { compileDnsPattern, compileUriPattern, type NamePattern } from "../../../src/protocol/name-pattern.ts";

const KELVIN = "\u212A";

describe("compileDnsPattern", () => {
  test.each([
    [
      "db.internal",
      ["db.internal", "DB.Internal"],
      ["", "x.db.internal", "db.internal.", "db.interna", "db.internalx", "db_internal"],
    ],
    ["DB.Internal", ["db.internal", "DB.INTERNAL"], ["db"]],
    ["localhost", ["localhost"], ["localhost.localhost"]],
    [
      "*.db.internal",
      ["a.db.internal", "A-1_.DB.internal"],
      ["db.internal", ".db.internal", "a.b.db.internal", "adb.internal"],
    ],
    ["*.db.internal", [], ["*.db.internal", "a\n.db.internal", "a b.db.internal", "a/b.db.internal", "ä.db.internal"]],
    [
      "**.db.internal",
      ["a.db.internal", "a.b.c.db.internal"],
      ["db.internal", ".db.internal", "a..db.internal", ".a.db.internal"],
    ],
    ["**.db.internal", [], ["**.db.internal", "*.a.db.internal", "a.db.internal.evil", "xdb.internal"]],
    ["*.com", ["a.com"], ["com", "a.b.com"]],
    ["k.example", ["K.example"], [`${KELVIN}.example`]],
  ])("%p", (pattern, hits, misses) => expectMatches(compileDnsPattern(pattern), hits, misses));

  test.each([
    ["", "is empty"],
    ["*", "every name"],
    ["**", "every name"],
    ["*.", "is empty"],
    ["**.", "is empty"],
    ["*a.example", "whole first label"],
    ["a.*.example", "whole first label"],
    ["*.*.example", "whole first label"],
    ["***.example", "whole first label"],
    ["a*", "whole first label"],
    [".example", "empty label"],
    ["db.internal.", "ends in a dot"],
    ["a b", "0x20"],
    ["bücher.example", "0xfc"],
    ["10.0.0.1", "IP address"],
    ["*.0.0.1", "ends in a number"],
    ["https://db.internal", "0x3a"],
  ])("%p is refused: %s", (pattern, problem) => expect(compileDnsPattern(pattern)).toContain(problem));

  test("only who asks for it gets the pattern of no name", () => {
    expectMatches(compileDnsPattern("", { allowEmpty: true }), [""], ["a", ".", "*"]);
    expectMatches(compileDnsPattern("a.b", { allowEmpty: true }), ["a.b"], [""]);
  });

  test("text is lower case and compiles to the same", () => {
    for (const pattern of ["DB.Internal", "*.DB.Internal", "**.DB.Internal"])
      expect(compiled(compileDnsPattern(pattern)).text).toBe(pattern.toLowerCase());
  });

  test("agrees with a comparison label by label", () => {
    const label = fc.constantFrom("a", "B", "ab", "", "*", "**", "x-1", "a b");
    const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join("."));
    fc.assert(
      fc.property(name, name, (pattern, asked) => {
        const answer = compileDnsPattern(pattern);
        if (typeof answer !== "string") expect(answer.matches(asked)).toBe(naiveDns(pattern, asked));
      }),
      { numRuns: 20_000 },
    );
  });
});

describe("compileUriPattern", () => {
  test.each([
    [
      "spiffe://prod/ns/web",
      ["spiffe://prod/ns/web", "SPIFFE://Prod/ns/web"],
      [
        "spiffe://prod/ns/Web",
        "spiffe://prod/ns/web/",
        "spiffe://prod/ns",
        "spiffe://prod/ns/web2",
        "xspiffe://prod/ns/web",
      ],
    ],
    ["spiffe://prod", ["spiffe://prod"], ["spiffe://prod/", "spiffe://production"]],
    ["urn:Uuid:1", ["urn:Uuid:1", "URN:Uuid:1"], ["urn:uuid:1"]],
    ["https://a.example/x?y#z", ["https://A.example/x?y#z"], ["https://a.example/X?y#z"]],
    [
      "spiffe://prod/*",
      ["spiffe://prod/a", "spiffe://prod/..."],
      [
        "spiffe://prod",
        "spiffe://prod/",
        "spiffe://prod/a/",
        "spiffe://prod/a/b",
        "spiffe://prod/.",
        "spiffe://prod/..",
        "spiffe://prod//",
      ],
    ],
    [
      "spiffe://prod/*/web",
      ["spiffe://prod/a/web"],
      ["spiffe://prod/web", "spiffe://prod//web", "spiffe://prod/a/b/web", "spiffe://prod/a/webs"],
    ],
    [
      "spiffe://prod/**",
      ["spiffe://prod/a", "spiffe://prod/a/b/c", "spiffe://PROD/a"],
      [
        ...["spiffe://prod", "spiffe://prod/", "spiffe://production/a", "spiffe://prod/a//b", "spiffe://prod/a/"],
        ...[
          "spiffe://prod/a/../b",
          "spiffe://prod/./b",
          "https://prod/a",
          "spiffe://prod@evil/a",
          "spiffe://prod.evil/a",
        ],
      ],
    ],
    [
      "spiffe://prod/ns/*/sa/**",
      ["spiffe://prod/ns/a/sa/b", "spiffe://prod/ns/a/sa/b/c"],
      ["spiffe://prod/ns/a/sa", "spiffe://prod/ns/a/b/sa/c"],
    ],
    [`spiffe://k/x`, ["spiffe://K/x"], [`spiffe://${KELVIN}/x`]],
  ])("%p", (pattern, hits, misses) => expectMatches(compileUriPattern(pattern), hits, misses));

  test.each([
    ["", "empty"],
    ["*", "every trust domain"],
    ["**", "every trust domain"],
    ["spiffe://**", "every trust domain"],
    ["spiffe://*", "every trust domain"],
    ["spiffe://*/x", "every trust domain"],
    ["spiffe://*.prod/x", "every trust domain"],
    ["spiffe://prod*/x", "every trust domain"],
    ["*://prod/x", "every trust domain"],
    ["spiffe:///**", "outside of a path"],
    ["urn:*", "outside of a path"],
    ["spiffe://prod?*", "outside of a path"],
    ["spiffe://prod/**/x", "before the end"],
    ["spiffe://prod/a*", "whole one"],
    ["spiffe://prod/***", "whole one"],
    ["spiffe://prod/a/*b/c", "whole one"],
    ["spiffe://prod/*/", "names none"],
    ["spiffe://prod//*", "names none"],
    ["spiffe://prod/../*", "names none"],
    ["prod/web", "no URI"],
    ["/web", "no URI"],
    ["spiffe://prod/a b", "no URI has"],
    ["spiffe://prod/ä", "no URI has"],
    ["spiffe://prod/a\n", "no URI has"],
  ])("%p is refused: %s", (pattern, problem) => expect(compileUriPattern(pattern)).toContain(problem));

  test("agrees with a comparison segment by segment", () => {
    const segment = fc.constantFrom("a", "B", "ab", "", "*", "**", ".", "..", "...", ".a");
    const uri = fc
      .tuple(fc.constantFrom("spiffe://prod", "spiffe://prodx", "SPIFFE://Prod"), fc.array(segment, { maxLength: 5 }))
      .map(([origin, segments]) => [origin, ...segments].join("/"));
    fc.assert(
      fc.property(uri, uri, (pattern, asked) => {
        const answer = compileUriPattern(pattern);
        if (typeof answer !== "string") expect(answer.matches(asked)).toBe(naiveUri(pattern, asked));
      }),
      { numRuns: 20_000 },
    );
  });
});

test("no text throws, as a pattern or as a name", () => {
  const compilers = [compileDnsPattern, compileUriPattern];
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (pattern, name) => {
      for (const compile of compilers) {
        const answer = compile(pattern);
        if (typeof answer !== "string") expect(typeof answer.matches(name)).toBe("boolean");
      }
      for (const pattern of ["*.a.b", "**.a.b"]) compiled(compileDnsPattern(pattern)).matches(name);
      for (const pattern of ["a://b/*/c", "a://b/**"]) compiled(compileUriPattern(pattern)).matches(`a://b/${name}`);
    }),
    { numRuns: 2000 },
  );
});

test("matching takes time in proportion to the name", () => {
  const dns = compiled(compileDnsPattern("**.a.b"));
  const uri = compiled(compileUriPattern("spiffe://prod/*/*/*/*/*/**"));
  const started = performance.now();
  expect(dns.matches(`${"a.".repeat(1_000_000)}b.c`)).toBe(false);
  expect(dns.matches(`${"a.".repeat(1_000_000)}a.b`)).toBe(true);
  expect(uri.matches(`spiffe://prod${"/a".repeat(1_000_000)}/`)).toBe(false);
  // Anything worse than linear would take hours.
  expect(performance.now() - started).toBeLessThan(5000);
});

function naiveDns(pattern: string, name: string): boolean {
  const wanted = pattern.toLowerCase().split(".");
  const labels = name.toLowerCase().split(".");
  if (!name.match(/^[\w.-]*$/) || labels.includes("")) return false;
  const first = wanted[0];
  if (first !== "*" && first !== "**") return wanted.join() === labels.join();
  const tail = wanted.slice(1);
  const extra = labels.length - tail.length;
  return labels.slice(extra).join() === tail.join() && (first === "*" ? extra === 1 : extra >= 1);
}

function naiveUri(pattern: string, name: string): boolean {
  const [wantedScheme, , wantedAuthority, ...wanted] = pattern.split("/");
  const [scheme, , authority, ...segments] = name.split("/");
  if (`${wantedScheme}${wantedAuthority}`.toLowerCase() !== `${scheme}${authority}`.toLowerCase()) return false;
  for (const [index, segment] of wanted.entries()) {
    const covered = segment === "**" ? segments.slice(index) : segments.slice(index, index + 1);
    if (!segment.includes("*")) {
      if (covered[0] !== segment) return false;
    } else if (covered.length === 0 || covered.some((part) => ["", ".", ".."].includes(part))) return false;
  }
  return wanted.at(-1) === "**" || wanted.length === segments.length;
}

function expectMatches(pattern: NamePattern | string, hits: readonly string[], misses: readonly string[]): void {
  const { matches } = compiled(pattern);
  for (const name of hits) if (!matches(name)) throw new Error(`does not match ${JSON.stringify(name)}`);
  for (const name of misses) if (matches(name)) throw new Error(`matches ${JSON.stringify(name)}`);
}

function compiled(pattern: NamePattern | string): NamePattern {
  if (typeof pattern === "string") throw new Error(pattern);
  return pattern;
}
