import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ProxyError } from "../../../src/base/errors.ts";
import { loadConfig, loadConfigFile, pathBeside } from "../../../src/config/load.ts";
import { formatProblem } from "../../../src/config/problems.ts";

const MINIMAL = `listeners: [{ name: in, address: "127.0.0.1:1", backend: web }]
backends: { web: { endpoints: [127.0.0.1:80] } }
`;
const load = (text: string) => loadConfig(text, { file: "etc/edge.yaml", environment: {} });
const problemsOf = (text: string): string[] => {
  const loaded = load(text);
  return loaded.ok ? [] : loaded.problems.map(formatProblem);
};

describe("what a config comes to", () => {
  test("defaults are SPEC.md's", () => {
    const loaded = load(MINIMAL);
    if (!loaded.ok) throw new Error("the minimal config is good");
    const { config } = loaded;
    expect(config.drain_timeout).toBe(30_000);
    expect(config.access_log).toEqual({ output: "stdout", format: "json", level: "info", sample: 1 });
    expect(config.listeners[0]).toMatchObject({ peek_timeout: 5000, handshake_timeout: 5000, allow_plaintext: false });
    expect(config.backends.web).toMatchObject({
      balance: "least_connections",
      connect_timeout: 3000,
      connect_attempts: 3,
      idle_timeout: 3_600_000,
      max_lifetime: 0,
      half_close_idle_timeout: 300_000,
    });
    expect(loaded.warnings).toEqual([]);
  });
  test("file paths start from the config file, absolute ones stay", () => {
    expect(pathBeside("etc/edge.yaml", "a.pem")).toBe("etc/a.pem");
    expect(pathBeside("edge.yaml", "./a.pem")).toBe("a.pem");
    expect(pathBeside("/etc/bunnel/edge.yaml", "../a.pem")).toBe("/etc/bunnel/../a.pem");
    expect(pathBeside("etc/edge.yaml", "/a.pem")).toBe("/a.pem");
    const loaded = load(`${MINIMAL}access_log: { output: ./access.log }\n`);
    if (!loaded.ok) throw new Error("the config is good");
    expect(loaded.config.access_log.output).toBe("etc/access.log");
  });
  test("the path of a log stays one beside a config that was named without a directory", () => {
    for (const output of ["./access.log", "./stdout"]) {
      const loaded = loadConfig(`${MINIMAL}access_log: { output: ${output} }\n`, { file: "e.yaml", environment: {} });
      expect(loaded).toMatchObject({ ok: true, config: { access_log: { output } } });
    }
  });
});

describe("problems", () => {
  test("a file that cannot be read is one", () => {
    const files = {
      readText: (path: string): string => {
        throw new ProxyError("ENOENT", `cannot read ${path}: no such file or directory`);
      },
      stamp: () => "ENOENT",
    };
    const loaded = loadConfigFile("gone.yaml", files, {});
    expect(loaded.ok ? [] : loaded.problems.map(formatProblem)).toEqual([
      "gone.yaml: cannot be read: no such file or directory",
    ]);
  });
  test("shape and reference are both reported, in the order of the file", () => {
    const problems = problemsOf(MINIMAL.replace("backend: web", "backend: wbe, max_connections: -1"));
    expect(problems).toEqual([
      'etc/edge.yaml:1:58: listeners[0].backend: there is no backend "wbe"; did you mean "web"?',
      "etc/edge.yaml:1:80: listeners[0].max_connections: -1 is out of range; allowed: 0 (no limit of its own) to 10000000",
    ]);
  });
  test("an entry that is broken does not shift the places of those after it", () => {
    const text = MINIMAL.replace("[{", "[{ name: broken, address: nowhere, backend: web }, {").replace(
      "backend: web }]",
      "backend: wbe }]",
    );
    expect(problemsOf(text).map((line) => line.split(": ")[1])).toEqual([
      "listeners[0].address",
      "listeners[1].backend",
    ]);
  });
  test("a misspelt required field is one problem", () => {
    expect(problemsOf(MINIMAL.replace("endpoints", "endpionts"))).toEqual([
      'etc/edge.yaml:2:20: backends.web.endpionts: is not a known field; did you mean "endpoints"?',
    ]);
  });
  test("names of Object's own are names like others", () => {
    expect(problemsOf(MINIMAL.replace("backend: web", "backend: constructor"))[0]).toContain(
      'no backend "constructor"',
    );
    expect(problemsOf(MINIMAL.replace("{ web:", "{ __proto__: { endpoints: [] }, web:"))).toHaveLength(1);
  });
});

test("no config text makes the loader throw, and what it accepts is whole", () => {
  const scalar = fc.oneof(
    fc.string({ maxLength: 8 }),
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.constantFrom("127.0.0.1:80", "web", "none"),
  );
  const key = fc.constantFrom(
    "name",
    "address",
    "routes",
    "tls",
    "match",
    "sni",
    "backend",
    "endpoints",
    "policy",
    "web",
    "rules",
    "action",
    "terminate",
    "certificates",
    "weight",
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      scalar,
      fc.array(tie("tree"), { maxLength: 3 }),
      fc.dictionary(key, tie("tree"), { maxKeys: 4 }),
    ),
  }));
  const root = fc.record(
    { listeners: fc.array(tree, { maxLength: 3 }), backends: tree, policies: tree },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(root, (value) => {
      const loaded = load(JSON.stringify(value));
      if (!loaded.ok) expect(loaded.problems.length).toBeGreaterThan(0);
      else
        expect(
          loaded.config.listeners.every(({ routes, backend }) => (routes === undefined) !== (backend === undefined)),
        ).toBe(true);
    }),
    { numRuns: 500 },
  );
});
