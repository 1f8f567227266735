// The lab writes bunnel's config itself, so a change of the schema must not be noticed only by a bench run that fails.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CONTENDERS } from "../../../bench/contenders/all.ts";
import { describeSetup, type ListenerName } from "../../../bench/contenders/contender.ts";
import { EVERY_LISTENER, layOut, PORTS_AT_MOST } from "../../../bench/hops.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { formatProblem } from "../../../src/config/problems.ts";

const PORTS = {
  http: [2001, 2002],
  https: [2003, 2004],
  iperf: 2005,
  ping: 2006,
  redis: 2007,
  postgres: 2008,
  status: 2009,
} as const;
const FREE = Array.from({ length: PORTS_AT_MOST }, (_, index) => 1001 + index);
const CERTIFICATES = {
  caFile: "ca.pem",
  serverCertificateFile: "server.pem",
  serverKeyFile: "server.key",
  serverBundleFile: "server-bundle.pem",
  clientCertificateFile: "client.pem",
  clientKeyFile: "client.key",
  clientBundleFile: "client-bundle.pem",
};

const CASES: readonly (readonly [string, readonly ListenerName[]])[] = [
  ["bunnel", EVERY_LISTENER],
  ["bunnel+log", EVERY_LISTENER],
  ["bunnel", ["two-hop"]],
];

test.each(CASES)("the config that %s is measured with is a good one: %s", (name, names) => {
  const folder = mkdtempSync(join(tmpdir(), "bunnel-contender-"));
  try {
    const contender = CONTENDERS.find((one) => one.name === name);
    for (const listeners of layOut(names, PORTS, FREE)) {
      const input = { folder, listeners, certificates: CERTIFICATES, connections: 100 };
      const file = contender?.prepare(input)[0]?.at(-1) ?? "";
      const loaded = loadConfig(readFileSync(file, "utf8"), { file, environment: {} });
      expect(loaded.ok ? [] : loaded.problems.map(formatProblem)).toEqual([]);
      if (!loaded.ok) continue;
      const originates = Object.values(loaded.config.backends).filter(({ tls }) => tls !== undefined);
      expect(originates).toHaveLength(listeners.filter((listener) => listener.originates).length);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.each(
  CONTENDERS.filter(({ name }) => name !== "c-minimal").map((contender) => [contender.name, contender] as const),
)("the setup of %s can be shown, with every port that it serves and no path of this machine", (_, contender) => {
  const [every = []] = layOut(EVERY_LISTENER, PORTS, FREE);
  const listeners = every.filter((listener) => contender.serves?.(listener) ?? true);
  const text = describeSetup(contender, { listeners, certificates: CERTIFICATES, connections: 100 });
  for (const { port } of listeners) expect(text).toContain(String(port));
  expect(listeners.length).toBeGreaterThan(0);
  expect(text).not.toContain(tmpdir());
  expect(text).not.toContain(join(import.meta.dir, "../../.."));
});
