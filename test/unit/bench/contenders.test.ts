// The lab writes bunnel's config itself, so a change of the schema must not be noticed only by a bench run that fails.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CONTENDERS } from "../../../bench/contenders.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { formatProblem } from "../../../src/config/problems.ts";

test.each(["bunnel", "bunnel+log"])("the config that %s is measured with is a good one", (name) => {
  const folder = mkdtempSync(join(tmpdir(), "bunnel-contender-"));
  try {
    const contender = CONTENDERS.find((one) => one.name === name);
    const command = contender?.prepare({
      folder,
      listeners: [
        { name: "http", port: 1001, endpoints: [1002], terminatesTls: false },
        { name: "mtls", port: 1003, endpoints: [1002], terminatesTls: true },
      ],
      certificates: {
        caFile: "ca.pem",
        serverCertificateFile: "server.pem",
        serverKeyFile: "server.key",
        serverBundleFile: "server-bundle.pem",
        clientCertificateFile: "client.pem",
        clientKeyFile: "client.key",
      },
    });
    const file = command?.at(-1) ?? "";
    const loaded = loadConfig(readFileSync(file, "utf8"), { file, environment: {} });
    expect(loaded.ok ? [] : loaded.problems.map(formatProblem)).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
