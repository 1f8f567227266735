// What is said of values that the fields of the program itself cannot have: `workers`, `user`, `admin`. test/golden has their places.

import { describe, expect, test } from "bun:test";
import { loadConfig } from "../../../src/config/load.ts";

const REST = `listeners: [{ name: in, address: "127.0.0.1:1", backend: web }]
backends: { web: { endpoints: [127.0.0.1:80] } }
`;

/** The one problem of a config with this line, without its file. */
function problemOf(line: string): string {
  const loaded = loadConfig(`${line}\n${REST}`, { file: "f.yaml", environment: { COUNT: "500" } });
  expect(loaded.ok ? [] : loaded.problems).toHaveLength(1);
  return loaded.ok ? "" : (loaded.problems[0]?.message ?? "");
}

describe("workers", () => {
  const allowed = "allowed: auto, or 0 (everything runs in one process) to 64";
  const wrong: Readonly<Record<string, string>> = {
    "-1": `-1 is out of range; ${allowed}`,
    "65": `65 is out of range; ${allowed}`,
    "1e20": `100000000000000000000 is out of range; ${allowed}`,
    "1.5": `expected a whole number or auto, found 1.5; ${allowed}`,
    ".nan": `expected a whole number or auto, found NaN; ${allowed}`,
    true: `expected a whole number or auto, found true; ${allowed}`,
    "[auto]": `expected a whole number or auto, found a list; ${allowed}`,
    "{ count: 2 }": `expected a whole number or auto, found a map; ${allowed}`,
    "": `is empty; ${allowed}`,
    many: `"many" is not allowed; ${allowed}`,
    Auto: `"Auto" is not allowed; ${allowed}; did you mean "auto"?`,
    '"2"': '"2" is text: write the number without quotes',
    "${COUNT}": `500 is out of range; ${allowed}`,
  };
  for (const [written, message] of Object.entries(wrong))
    test(`: ${written}`, () => expect(problemOf(`workers: ${written}`)).toBe(message));

  test("auto, and the numbers from 0 to 64", () => {
    for (const written of ["auto", 0, 1, 64]) {
      const loaded = loadConfig(`workers: ${written}\n${REST}`, { file: "f.yaml", environment: {} });
      expect(loaded.ok && loaded.config.workers).toBe(written as number);
    }
  });
});

describe("admin.address", () => {
  const offHost =
    "can be reached from other hosts, and whoever reaches it commands the daemon: give `tls` with `client_ca`, or `token_file` with `tls`; or use 127.0.0.1 or unix:/path";
  const wrong: Readonly<Record<string, string>> = {
    "0.0.0.0:9901": `0.0.0.0:9901 ${offHost}`,
    "[::]:9901": `[::]:9901 ${offHost}`,
    "192.0.2.7:9901": `192.0.2.7:9901 ${offHost}`,
    "localhost:9901": 'the admin API needs an IP address and not the name "localhost"; for localhost write 127.0.0.1',
    "edge.example:9901":
      'the admin API needs an IP address and not the name "edge.example"; for localhost write 127.0.0.1',
    "127.0.0.1": '"127.0.0.1" has no port: write host:port, [v6]:port or unix:/path, or off for none',
    none: '"none" has no port: write host:port, [v6]:port or unix:/path, or off for none',
    "unix:admin.sock": '"unix:admin.sock" needs an absolute path: unix:/run/bunnel/name.sock',
    "systemd:admin": "the admin API takes no socket from systemd: use 127.0.0.1:port or unix:/path",
  };
  for (const [written, message] of Object.entries(wrong))
    test(`: ${written}`, () => expect(problemOf(`admin: { address: "${written}" }`)).toBe(message));

  test("off, the default, and what this host alone can reach", () => {
    const addressOf = (line: string): unknown => {
      const loaded = loadConfig(`${line}\n${REST}`, { file: "f.yaml", environment: {} });
      return loaded.ok ? loaded.config.admin.address : loaded.problems;
    };
    expect(addressOf("admin: { address: off }")).toBeNull();
    expect(addressOf("")).toEqual({ kind: "tcp", host: "127.0.0.1", port: 9901 });
    expect(addressOf("admin: {}")).toEqual({ kind: "tcp", host: "127.0.0.1", port: 9901 });
    expect(addressOf('admin: { address: "[::1]:0" }')).toEqual({ kind: "tcp", host: "::1", port: 0 });
    expect(addressOf('admin: { address: "127.8.0.1:1" }')).toEqual({ kind: "tcp", host: "127.8.0.1", port: 1 });
  });
});

describe("user", () => {
  const wrong: Readonly<Record<string, string>> = {
    '""': "a user must not be empty; to stay who you are, leave the field out",
    "1000": "expected text, found 1000; allowed: the name of a user of this host",
    '"1000"': '"1000" is a number: write the name of the user',
    '"a b"': '"a b" is not the name of a user',
    '"../root"': '"../root" is not the name of a user',
  };
  for (const [written, message] of Object.entries(wrong))
    test(`: ${written}`, () => expect(problemOf(`user: ${written}`)).toBe(message));
});

describe("telemetry.otlp", () => {
  const write = "is no URL of a collector: write http://HOST:PORT/v1/traces or https://…";
  const offHost =
    "is on another host, and would be sent spans as plaintext; write https://, or, if that is meant, say `allow_plaintext: true`";
  const wrong: Readonly<Record<string, string>> = {
    "127.0.0.1:4318": write,
    "grpc://127.0.0.1:4317": write,
    "http://": write,
    "http://me:SECRET@127.0.0.1:4318/v1/traces": "a URL shows what it holds: put a password into `headers`",
    "http://127.0.0.1:4318/v1/traces?key=SECRET": "a collector's URL has a path, and nothing behind it",
    "http://collector.example/v1/traces": offHost,
    "http://192.0.2.7:4318/v1/traces": offHost,
  };
  for (const [written, message] of Object.entries(wrong))
    test(`endpoint: ${written}`, () => {
      const problem = problemOf(`telemetry: { otlp: { endpoint: "${written}" } }`);
      expect(problem).toBe(message);
    });

  const headers: readonly string[] = [
    "{ x-key: 4711 }",
    '{ x-key: "47\\n11" }',
    '{ "x key": "4711" }',
    '{ x-key: "" }',
  ];
  for (const written of headers)
    test(`headers: ${written} is refused, and not repeated`, () => {
      const problem = problemOf(`telemetry: { otlp: { endpoint: "http://127.0.0.1/", headers: ${written} } }`);
      expect(problem).toMatch(/header/);
      expect(problem).not.toContain("47");
    });

  test("what is on this host, or encrypted, or meant", () => {
    const good = [
      'endpoint: "http://127.0.0.1:4318/v1/traces"',
      'endpoint: "http://[::1]:4318/v1/traces"',
      'endpoint: "http://localhost/v1/traces"',
      'endpoint: "https://collector.example/v1/traces", headers: { authorization: "Bearer x" }, sample: 5%',
      'endpoint: "http://192.0.2.7:4318/v1/traces", allow_plaintext: true',
    ];
    for (const written of good) {
      const loaded = loadConfig(`telemetry: { otlp: { ${written} } }\n${REST}`, { file: "f.yaml", environment: {} });
      expect(loaded.ok ? [] : loaded.problems).toEqual([]);
    }
  });
});
