// What golden configs cannot show: slots, resolution, and what is asked of the platform. test/golden has the rest.

import { describe, expect, test } from "bun:test";
import { ProxyError } from "../../../src/base/errors.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { formatProblem } from "../../../src/config/problems.ts";
import { type CompileOptions, type CompileResult, compile } from "../../../src/control/compile.ts";
import { files } from "../../../src/runtime/node/files.ts";
import type { ServerIdentity } from "../../../src/runtime/runtime.ts";
import { DAEMON_SLOT } from "../../../src/snapshot/counts.ts";
import { MeterBook } from "../../../src/snapshot/meters.ts";
import { exampleFiles } from "../../golden/example-files.ts";

async function compiled(text: string, options: Partial<CompileOptions> = {}): Promise<CompileResult> {
  const loaded = loadConfig(text, { file: "f.yaml", environment: {} });
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join("\n"));
  const defaults = {
    generation: 7,
    files: await exampleFiles(files),
    runtime: platform(() => {}),
    resolve: null,
    slots: new Map<string, number>(),
    nowMs: Date.now(),
    served: null,
  };
  return compile(loaded, { ...defaults, ...options });
}

/** A platform that takes what `serverContext` takes. */
function platform(serverContext: (identity: ServerIdentity) => void): CompileOptions["runtime"] {
  return {
    serverContext: (identity) => {
      serverContext(identity);
      return { identity };
    },
    clientContext: (identity) => ({ identity }),
    isSignedBy: () => true,
    userExists: () => true,
    refusals: [],
  };
}

const TWO_BACKENDS = `listeners: [{ name: in, address: "127.0.0.1:1", backend: b }]
backends:
  a: { allow_plaintext: true, endpoints: ["127.0.0.1:1001", "app.internal:1002"] }
  b: { allow_plaintext: true, endpoints: ["127.0.0.1:1001"] }
`;
const TLS = `listeners:
  - name: in
    address: 127.0.0.1:1
    tls:
      certificates: [{ cert: certs/edge.pem, key: certs/edge.key }, { cert: certs/db.pem, key: certs/db.key }]
      client_ca: [certs/ca.pem, certs/ca.pem]
      client_crl: [certs/ca.crl]
    routes: [{ name: r, tls: terminate, policy: any, backend: b }]
backends: { b: { endpoints: [127.0.0.1:80] } }
`;

describe("endpoints", () => {
  test("slots are numbered in order, one for each listener and each endpoint, and three for each backend", async () => {
    const result = await compiled(TWO_BACKENDS);
    if (!result.ok) throw new Error("the config is good");
    expect(result.snapshot.backends.map(({ endpoints }) => endpoints.map(({ slot }) => slot))).toEqual([[1, 2], [6]]);
    const own = result.snapshot.backends.map(({ slot, connectsSlot, retriesSlot }) => [
      slot,
      connectsSlot,
      retriesSlot,
    ]);
    expect(own).toEqual([
      [4, 5, 3],
      [8, 9, 7],
    ]);
    expect(result.snapshot).toMatchObject({ slotCount: 10, generation: 7 });
    expect(result.snapshot.listeners[0]?.routes[0]).toMatchObject({
      name: "default",
      tls: "none",
      backend: 1,
      policy: -1,
    });
  });
  test("names are resolved, and keep their name", async () => {
    const asked: string[] = [];
    const resolve = async (name: string): Promise<string> => {
      asked.push(name);
      return "2001:DB8:0::1";
    };
    const result = await compiled(TWO_BACKENDS, { resolve });
    if (!result.ok) throw new Error("the config is good");
    expect(asked).toEqual(["app.internal"]);
    expect(result.snapshot.backends[0]?.endpoints[1]).toMatchObject({
      name: "app.internal:1002",
      address: { kind: "tcp", host: "2001:db8::1", port: 1002 },
    });
  });
  test("a name that is not resolved, or to nonsense, is a problem at its place", async () => {
    const failing = await compiled(TWO_BACKENDS, { resolve: () => Promise.reject(new Error("ENOTFOUND")) });
    const nonsense = await compiled(TWO_BACKENDS, { resolve: async () => "somewhere" });
    for (const result of [failing, nonsense])
      expect(result.ok ? "" : result.problems.map(formatProblem).join()).toStartWith(
        "f.yaml:3:61: backends.a.endpoints[1]: ",
      );
  });
});

describe("room for names", () => {
  const endpoints = (from: number, count: number): string =>
    Array.from(
      { length: count },
      (_, index) => `127.${(from + index) >> 16}.${((from + index) >> 8) & 255}.${(from + index) & 255}:2`,
    ).join(", ");
  const served = (list: string): string =>
    `listeners: [{ name: in, address: "127.0.0.1:1", backend: b }]\nbackends: { b: { endpoints: [${list}] } }\n`;

  test("what there is none for is refused, and takes none from what is served or still fits", async () => {
    const slots = new Map(Array.from({ length: DAEMON_SLOT - 10 }, (_, index) => [`gone ${index}`, index] as const));
    const first = await compiled(served(endpoints(1, 2)), { slots });
    expect(first.ok ? first.warnings.map(formatProblem) : "").toEqual([
      "f.yaml:2:11: backends: uses 99% of the room for names of listeners, backends, endpoints and policies, which those that are gone keep until a restart: restart before it is full",
    ]);
    const before = slots.size;
    for (let time = 0; time < 3; time++) {
      const refused = await compiled(served(endpoints(100 + 20 * time, 20)), { slots });
      expect(refused.ok ? "" : refused.problems.map(formatProblem).join()).toMatch(
        /^f.yaml:2:11: backends: needs 101% of the room for names .*: restart to begin anew$/,
      );
    }
    expect(slots.size).toBe(before);
    const [again, another] = [
      await compiled(served(endpoints(1, 2)), { slots }),
      await compiled(served(endpoints(1, 6)), { slots }),
    ];
    expect([again.ok, another.ok, slots.size]).toEqual([true, true, DAEMON_SLOT]);
  });

  test("a config that is refused for anything else takes none either", async () => {
    const slots = new Map<string, number>();
    const meters = new MeterBook();
    const missing = `${served("127.0.0.1:2")}telemetry: { otlp: { endpoint: "https://c.test/", tls: { ca: [missing.pem] } } }\n`;
    expect((await compiled(missing, { slots, meters })).ok).toBe(false);
    expect([slots.size, meters.used]).toEqual([0, 0]);
    expect((await compiled(served("127.0.0.1:2"), { slots, meters })).ok).toBe(true);
    expect(slots.size).toBe(5);
    expect(meters.entries.length).toBe(4);
  });
});

describe("TLS material", () => {
  test("each certificate is tried as it will be served, CAs and CRLs taken apart", async () => {
    const tried: ServerIdentity[] = [];
    const result = await compiled(TLS, { runtime: platform((identity) => void tried.push(identity)) });
    expect(result.ok).toBe(true);
    expect(tried).toHaveLength(2);
    for (const identity of tried) {
      expect(identity.clientAuth).toBe("required");
      expect(identity.clientCaPem).toHaveLength(2);
      expect(identity.clientCaPem[0]).toStartWith("-----BEGIN CERTIFICATE-----");
      expect(identity.clientCrlPem).toHaveLength(1);
    }
  });
  test("what the platform refuses is a problem at that certificate", async () => {
    let calls = 0;
    const runtime = platform(() => {
      if (++calls === 2) throw new ProxyError("BAD_TLS_MATERIAL", "the key is another certificate's");
    });
    const result = await compiled(TLS, { runtime });
    expect(result.ok ? [] : result.problems.map(formatProblem)).toEqual([
      "f.yaml:5:69: listeners[0].tls.certificates[1]: certs/db.pem with certs/db.key: the key is another certificate's",
    ]);
  });
  test("no message quotes a file", async () => {
    const secret = "hunter2-this-is-not-pem";
    const result = await compiled(TLS, { files: { ...files, readText: () => secret } });
    expect(result.ok).toBe(false);
    expect(JSON.stringify(result)).not.toContain(secret);
  });
  test("a certificate that has expired, or is not valid yet, is a warning", async () => {
    const late = await compiled(TLS, { nowMs: Date.now() + 20 * 86_400_000 });
    expect(late.ok ? late.warnings.map(formatProblem).join("\n") : "").toMatch(/certs\/edge.pem: .*: expired on /);
    const early = await compiled(TLS, { nowMs: Date.now() - 86_400_000 });
    expect(early.ok ? early.warnings.map(formatProblem).join("\n") : "").toMatch(
      /certs\/edge.pem: .*: is not valid before /,
    );
  });
});
