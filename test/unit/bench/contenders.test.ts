// The lab writes bunnel's config itself, so a change of the schema must not be noticed only by a bench run that fails.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CONTENDERS } from "../../../bench/contenders.ts";
import { layOut, PORTS_AT_MOST, type Topology } from "../../../bench/hops.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { formatProblem } from "../../../src/config/problems.ts";

const PORTS = { http: [2001, 2002], https: [2003, 2004], iperf: 2005, ping: 2006, status: 2007 } as const;
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

const CASES: readonly (readonly [string, Topology])[] = [
  ["bunnel", "one"],
  ["bunnel+log", "one"],
  ["bunnel", "originate"],
  ["bunnel", "two-hop"],
];

test.each(CASES)("the config that %s is measured with is a good one: %s", (name, topology) => {
  const folder = mkdtempSync(join(tmpdir(), "bunnel-contender-"));
  try {
    const contender = CONTENDERS.find((one) => one.name === name);
    for (const listeners of layOut(topology, PORTS, FREE)) {
      const file = contender?.prepare({ folder, listeners, certificates: CERTIFICATES }).at(-1) ?? "";
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
