// The conformance suite against the seam's implementation on Bun.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import { runtimeConformance } from "./runtime-conformance.ts";

runtimeConformance(runtime);

// Bun reads the variable at its start as well as later; the suite sets it later, this sets it before.
for (const [tests, passed] of [
  ["5. terminateTls refuses", /\b[2-9]\d pass\b/],
  ["5. originateTls refuses", /\b11 pass\b/],
] as const) {
  // The name must not match its own filter.
  test(`in a process started with NODE_TLS_REJECT_UNAUTHORIZED=0: ${tests.slice(3)}`, { timeout: 60_000 }, async () => {
    const child = spawn(process.execPath, ["test", import.meta.path, "-t", tests], {
      env: { ...process.env, NODE_TLS_REJECT_UNAUTHORIZED: "0" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout.on("data", (bytes: Buffer) => {
      output += bytes.toString();
    });
    child.stderr.on("data", (bytes: Buffer) => {
      output += bytes.toString();
    });
    const [status] = await once(child, "close");
    assert.equal(status, 0, output);
    assert.match(output, passed);
  });
}
