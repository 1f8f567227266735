// The conformance suite on Deno, in a process of its own: `bun test` runs what `deno task test:conformance` runs. What it leaves out is in
// src/runtime/deno/limits.ts.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../support/child.ts";

const ROOT = join(import.meta.dir, "../..");
const DENO = join(ROOT, "node_modules/.bin/deno");
/** The lines that there are, but for some that may come or go. */
const LINES = 280;

// Its TLS peers are Deno's own, which now and then do not begin: once more, then.
test(
  "the seam on Deno keeps the contract",
  async () => {
    const { exitCode, stdout, stderr } = await run([DENO, "task", "--quiet", "test:conformance"], {
      cwd: ROOT,
      env: { NO_COLOR: "1" },
      patienceMs: 150_000,
    });
    expect(`${exitCode === 0 ? "" : stdout.slice(-6000)}${exitCode === 0 ? "" : stderr}`).toBe("");
    const passed = Number(/\((\d+) steps\)/.exec(stdout)?.[1]);
    expect(passed).toBeGreaterThan(LINES);
  },
  { timeout: 160_000, retry: 1 },
);

test("it type-checks on Deno", async () => {
  const { exitCode, stderr } = await run([DENO, "task", "--quiet", "check"], { cwd: ROOT, patienceMs: 60_000 });
  expect(exitCode === 0 ? "" : stderr).toBe("");
}, 70_000);
