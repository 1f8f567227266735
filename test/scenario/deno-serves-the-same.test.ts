// The same scenarios, driven against the program on Deno: what needs one process only is served, logged and refused there as it is on Bun.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../support/child.ts";
import { IS_DENO } from "../support/daemon.ts";

const SCENARIOS = [
  "fin-becomes-fin-and-rst-becomes-rst",
  "one-port-serves-terminate-passthrough-and-opaque",
  "a-refused-client-is-named-in-the-log",
  "bad-config-opens-nothing",
  "every-close-reason-is-reached",
  "quickstart-serves-the-printed-curl-command",
  "re-encryption-and-truncation",
  "endpoints-that-prove-who-they-are-are-served",
  "endpoints-must-prove-who-they-are",
  "bad-certificates-are-refused-by-name",
  "least-connections-fills-the-emptiest",
  "limits-make-newcomers-wait",
  "sighup-reloads-everything",
  "trust-domains-are-kept-apart",
  "tls-settings-are-strict",
  "a-client-must-have-its-key",
  "the-environment-widens-no-trust",
] as const;

test.skipIf(IS_DENO)(
  "scenarios of one process pass on Deno",
  async () => {
    const files = SCENARIOS.map((name) => join(import.meta.dir, `${name}.test.ts`));
    const { exitCode, stderr } = await run([process.execPath, "test", ...files], {
      cwd: join(import.meta.dir, "../.."),
      env: { BUNNEL_TEST_RUNTIME: "deno", NO_COLOR: "1" },
      patienceMs: 330_000,
    });
    expect(exitCode === 0 ? "" : stderr.slice(-8000)).toBe("");
    expect(Number(/^\s*(\d+) pass/m.exec(stderr)?.[1])).toBeGreaterThan(300);
  },
  340_000,
);
