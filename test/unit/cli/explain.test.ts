import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type ExplainOptions, explain } from "../../../src/cli/explain.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import { files } from "../../../src/runtime/node/files.ts";
import { exampleFiles } from "../../golden/example-files.ts";
import { testPki } from "../../support/certificates.ts";

const config = join(import.meta.dir, "../../../config");

async function explained(example: string, options: Partial<ExplainOptions>): Promise<{ code: number; text: string }> {
  const lines: string[] = [];
  const print = (line: string): void => void lines.push(line.replace(/ +/g, " "));
  const io = { out: print, err: print, files: await exampleFiles(files), environment: {}, runtime };
  const code = await explain(io, { config: join(config, example), ...options });
  return { code, text: lines.join("\n") };
}

describe("a client that gets through", () => {
  test("by its certificate", async () => {
    const { code, text } = await explained("mtls-termination.yaml", {
      sni: "DB.internal",
      certificate: "certs/client.pem",
    });
    expect(text).toBe(
      [
        "listener edge (0.0.0.0:8443)",
        "source 127.0.0.1",
        "route db (tls: terminate)",
        "certificate 2 of 2 (db.internal, *.db.internal)",
        "identity uri spiffe://prod/billing/api, cn billing (if the certificate verifies)",
        "policy db-clients: allow[0]",
        "backend db (least_connections)",
        "endpoint 127.0.0.1:5432 (the first when none has a connection)",
        "result relayed",
      ].join("\n"),
    );
    expect(code).toBe(0);
  });
  test("by SNI, by ALPN, and without SNI from inside", async () => {
    expect((await explained("sni-routing.yaml", { sni: "a.mail.example.org" })).text).toContain("route mail");
    expect((await explained("sni-routing.yaml", { sni: "x", alpn: ["acme-tls/1"] })).text).toContain("route acme");
    expect((await explained("sni-routing.yaml", { source: "10.9.9.9" })).text).toContain("route monitoring");
  });
  test("to the endpoint of its source, or the nearest one of which nothing is known", async () => {
    const endpointOf = async (options: Partial<ExplainOptions>): Promise<string> =>
      /^endpoint .*$/m.exec((await explained("balancing.yaml", options)).text)?.[0] ?? "";
    const sources = Array.from({ length: 40 }, (_, index) => `10.7.0.${index}`);
    const told = await Promise.all(sources.map((source) => endpointOf({ listener: "cache", source })));
    const again = await Promise.all(sources.map((source) => endpointOf({ listener: "cache", source })));
    expect(again).toEqual(told);
    expect([...new Set(told)].sort()).toEqual(
      [11, 12, 13].map((host) => `endpoint 10.1.0.${host}:11211 (by its source, while it can take connections)`),
    );
    expect(await endpointOf({ listener: "search" })).toBe(
      "endpoint 10.1.0.1:9200 (the first while no latency is known)",
    );
  });
  test("as plain bytes on a shared port", async () => {
    expect((await explained("same-port.yaml", { plain: true })).text).toContain("route the-rest");
    expect((await explained("same-port.yaml", { source: "127.0.0.2", sni: "api.internal" })).text).toContain(
      "route probes",
    );
  });
});

describe("a client that does not", () => {
  const closed = async (example: string, options: Partial<ExplainOptions>): Promise<string> => {
    const { code, text } = await explained(example, options);
    expect(code).toBe(1);
    return text.split("\n").at(-1) ?? "";
  };
  test("because its certificate is not valid today", async () => {
    const { expired, notYetValid } = await testPki();
    const from = (certificate: string): Promise<string> =>
      closed("mtls-termination.yaml", { sni: "db.internal", certificate });
    expect(await from(expired.certificatePath)).toBe("result closed with certificate_rejected (CERT_HAS_EXPIRED)");
    expect(await from(notYetValid.certificatePath)).toBe(
      "result closed with certificate_rejected (CERT_NOT_YET_VALID)",
    );
  });

  test("names the close reason that it would end with", async () => {
    const db = { sni: "db.internal" };
    expect(await closed("mtls-termination.yaml", db)).toStartWith("result closed with certificate_rejected");
    expect(await closed("mtls-termination.yaml", { ...db, certificate: "certs/stranger.pem" })).toBe(
      "result closed with policy_denied (policy db-clients: no rule matches)",
    );
    expect(await closed("sni-routing.yaml", { sni: "elsewhere.test" })).toBe("result closed with no_route");
    expect(await closed("sni-routing.yaml", { plain: true })).toBe("result closed with not_tls");
    expect(await closed("proxy-protocol.yaml", { source: "203.0.113.1" })).toBe(
      "result closed with source_denied (not in allow_sources)",
    );
  });
});

test("usage errors are 2 and a bad config 78", async () => {
  const listener = await explained("unix-sockets.yaml", {});
  expect(listener.code).toBe(2);
  expect(listener.text).toContain("local-db, tls-for-app");
  expect((await explained("unix-sockets.yaml", { listener: "nope" })).code).toBe(2);
  expect((await explained("unix-sockets.yaml", { listener: "local-db", source: "10.0.0.1" })).code).toBe(2);
  expect((await explained("limits.yaml", { source: "x" })).code).toBe(2);
  expect((await explained("limits.yaml", { plain: true, sni: "x" })).code).toBe(2);
  expect((await explained("limits.yaml", { certificate: "certs/ca.crl" })).code).toBe(2);
  expect((await explained("gone.yaml", {})).code).toBe(78);
});
