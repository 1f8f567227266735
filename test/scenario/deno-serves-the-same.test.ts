// The same scenarios, driven against the program on Deno: what needs one process only is served, logged and refused there as it is on Bun.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../support/child.ts";
import { IS_DENO } from "../support/daemon.ts";

/** Of two processes, since they wait more than they work: of about the same length. */
const SCENARIOS = [
  [
    "fin-becomes-fin-and-rst-becomes-rst",
    "one-port-serves-terminate-passthrough-and-opaque",
    "a-refused-client-is-named-in-the-log",
    "bad-config-opens-nothing",
    "every-close-reason-is-reached",
    "quickstart-serves-the-printed-curl-command",
    "re-encryption-and-truncation",
    "tls-settings-are-strict",
    "a-client-must-have-its-key",
    "the-environment-widens-no-trust",
  ],
  [
    "endpoints-that-prove-who-they-are-are-served",
    "endpoints-must-prove-who-they-are",
    "bad-certificates-are-refused-by-name",
    "trust-domains-are-kept-apart",
    "least-connections-fills-the-emptiest",
    "limits-make-newcomers-wait",
    "sighup-reloads-everything",
  ],
] as const;

test.skipIf(IS_DENO)(
  "scenarios of one process pass on Deno",
  async () => {
    const outcomes = await Promise.all(
      SCENARIOS.map((names) =>
        run([process.execPath, "test", ...names.map((name) => join(import.meta.dir, `${name}.test.ts`))], {
          cwd: join(import.meta.dir, "../.."),
          env: { BUNNEL_TEST_RUNTIME: "deno", NO_COLOR: "1" },
          patienceMs: 120_000,
        }),
      ),
    );
    expect(outcomes.map(({ exitCode, stderr }) => (exitCode === 0 ? "" : stderr.slice(-8000)))).toEqual(["", ""]);
    const passed = outcomes.map(({ stderr }) => Number(/^\s*(\d+) pass/m.exec(stderr)?.[1]));
    expect(Math.min(...passed)).toBeGreaterThan(80);
  },
  130_000,
);
