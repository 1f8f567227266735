// Twenty reloads while clients keep coming and streams keep flowing, plain and by mutual TLS: endpoints, weights, policies, limits and listeners change, and nobody on a
// listener that stays is refused, reset, cut or given a wrong byte. So it is in one process and with workers. (Full size, with upgrades: test/soak/changes.ts.)

import { expect, test } from "bun:test";
import { testPki } from "../support/certificates.ts";
import { changeUnderLoad } from "../support/changes-under-load.ts";

test.each([0, 2])(
  "workers: %d",
  async (workers) => {
    const bounds = { workers, perSecond: 250, streams: 50, seconds: 6, reloads: 20, upgrades: 0 };
    const outcome = await changeUnderLoad({ pki: await testPki(), ...bounds });
    const { summary, reloaded } = outcome;
    expect(reloaded).toBe(20);
    expect(outcome.workers).toHaveLength(workers);
    expect(summary).toMatchObject({ failed: {}, examples: [], skipped: 0, streamsOk: 50 });
    expect(summary.ok).toBe(summary.attempted);
    expect(summary.attempted).toBeGreaterThan(1400);
  },
  30_000,
);
