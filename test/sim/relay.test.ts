// Seeded simulation of whole connections: worker, listeners, peek, handshake, dial and relay on a network that misbehaves by chance. Each
// seed is one world of some sixty connections; what must hold of each of them is in judge.ts and party.ts.
//
// SIM_SEED=n replays the world of one seed. Beside the fixed seeds one that is new each time is run and named.

import { describe, expect, test } from "bun:test";
import { type Outcome, runWorld } from "./world.ts";

const FIXED_SEEDS = 60;
const RANDOM_SEEDS = 10;
const LIMITED_SEEDS = 30;
/** Some 100 ms a world on a machine that does nothing else. */
const TIMEOUT_MS = 120_000;

const replayed = process.env.SIM_SEED;

describe.skipIf(replayed !== undefined)("every connection in a misbehaving network", () => {
  test(
    "is delivered, ended and recorded as it should: fixed seeds",
    () => {
      const reasons = new Map<string, number>();
      let accepted = 0;
      for (let seed = 1; seed <= FIXED_SEEDS; seed++) {
        const outcome = runWorld(seed);
        expectGood(seed, outcome);
        accepted += outcome.accepted;
        for (const [reason, count] of outcome.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + count);
      }
      expect(accepted).toBeGreaterThan(2000);
      // The worlds are worth their while only if they come to these ends.
      expect([...reasons.keys()].sort()).toEqual(REACHED);
    },
    TIMEOUT_MS,
  );

  test(
    "is delivered, ended and recorded as it should: a new seed",
    () => {
      const first = Math.floor(Math.random() * 0x7fff_0000);
      console.log(`simulation: seeds ${first} to ${first + RANDOM_SEEDS - 1}; replay one with SIM_SEED=n`);
      for (let seed = first; seed < first + RANDOM_SEEDS; seed++) expectGood(seed, runWorld(seed));
    },
    TIMEOUT_MS,
  );

  test(
    "is delivered, ended and recorded as it should where rates are limited",
    () => {
      for (let seed = 1; seed <= LIMITED_SEEDS; seed++) {
        // Slow enough for most to be held, and fast enough for nobody to seem idle to the judge, who cannot see why nothing moves.
        const maxBandwidth = seed % 3 === 0 ? 0 : 100_000;
        const maxBackendBandwidth = seed % 3 === 1 ? 0 : 1_000_000;
        expectGood(seed, runWorld(seed, { maxBandwidth, maxBackendBandwidth, maxConnectionsPerSecond: 30 }));
      }
    },
    TIMEOUT_MS,
  );

  test("is told by its seed alone", () => {
    expect([...runWorld(7).reasons]).toEqual([...runWorld(7).reasons]);
  });
});

test.skipIf(replayed === undefined)(
  `seed ${replayed}`,
  () => {
    const outcome = runWorld(Number(replayed));
    console.log(Object.fromEntries(outcome.reasons));
    expectGood(Number(replayed), outcome);
  },
  TIMEOUT_MS,
);

const REACHED = [
  "backend_overload",
  "certificate_rejected",
  "completed",
  "connect_refused",
  "connect_timeout",
  "downstream_left",
  "downstream_reset",
  "downstream_truncated",
  "drain_idle",
  "drain_timeout",
  "handshake_failed",
  "handshake_timeout",
  "idle_timeout",
  "lifetime_exceeded",
  "limit_reached",
  "malformed_header",
  "no_endpoint",
  "no_route",
  "not_tls",
  "peek_timeout",
  "policy_denied",
  "source_denied",
  "upstream_reset",
];

function expectGood(seed: number, { violations }: Outcome): void {
  if (violations.length > 0) throw new Error(`SIM_SEED=${seed}\n${violations.slice(0, 10).join("\n")}`);
}
