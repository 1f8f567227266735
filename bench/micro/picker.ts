// What it costs to pick one of 1,000 endpoints, by each balancer. No socket and no other program: `Backend.pick` alone, in a loop, in the process that
// runs this, with counts that change from pick to pick as they do under load.
//   bun bench/micro/picker.ts
// Each figure is the median and the range of batches that follow a warm-up. `idle`: no endpoint has a connection. `tied`: all have equally many. `busy`: each has
// another number of them, and of seven weights one. `limited`: all but one in ten are at their limits. `ejected`: all but one in ten are ejected.
import { Backend } from "../../src/proxy/balance.ts";
import { privateCounts } from "../../src/snapshot/counts.ts";
import type { BackendSpec, EndpointSpec } from "../../src/snapshot/snapshot.ts";
import { mulberry32 } from "../../test/support/sim-schedule.ts";
import { backendSpec, endpointSpec } from "../../test/support/sim-snapshot.ts";
import { summarise } from "../report.ts";

const ENDPOINTS = 1000;
const BATCHES = 51;
const BATCH_CALLS = 2000;
const WARM_UP_BATCHES = 10;
/** What this project set itself, in nanoseconds. */
const TO_REACH_NS = 2000;

const BALANCERS: readonly BackendSpec["balance"][] = [
  "least_connections",
  "round_robin",
  "random",
  "power_of_two",
  "least_latency",
  "source_hash",
];
const SITUATIONS = ["idle", "tied", "busy", "limited", "ejected"] as const;
type Situation = (typeof SITUATIONS)[number];

/** Nanoseconds of one pick: median and range of the batches. */
function measure(balance: BackendSpec["balance"], situation: Situation): string {
  const random = mulberry32(7);
  const counts = privateCounts();
  const limited = (slot: number): boolean => situation === "limited" && slot % 10 !== 0;
  const endpoints = Array.from({ length: ENDPOINTS }, (_, slot): EndpointSpec => {
    const weight = situation === "busy" ? 1 + (slot % 7) : 1;
    return endpointSpec(slot, { name: `endpoint-${slot}:80`, weight, maxConnections: limited(slot) ? 1 : 0 });
  });
  const { states } = counts.table;
  for (const { slot } of endpoints) {
    states.setLatency(slot, 100 + Math.floor(random() * 2000), Date.now());
    if (situation === "ejected" && slot % 10 !== 0) states.setEjectedUntilS(slot, Date.now() / 1000 + 3600);
    const active = { idle: 0, tied: 10 }[situation as string] ?? 1 + Math.floor(random() * 50);
    for (let connection = 0; connection < active; connection++) counts.add(slot);
  }
  const backend = new Backend(backendSpec({ balance, endpoints }), { counts, random });
  const sources = Array.from({ length: 256 }, () => ({
    bytes: Uint8Array.from({ length: 4 }, () => Math.floor(random() * 256)),
  }));
  const samples: number[] = [];
  for (let batch = -WARM_UP_BATCHES; batch < BATCHES; batch += 1) {
    let failures = 0;
    const startedAt = Bun.nanoseconds();
    for (let call = 0; call < BATCH_CALLS; call += 1) {
      const index = backend.pick([], sources[call & 255]);
      if (index < 0) failures += 1;
      // One comes and another one goes.
      else if (situation !== "idle") {
        counts.add(index);
        counts.subtract(index);
      }
    }
    const elapsed = Bun.nanoseconds() - startedAt;
    if (failures > 0) throw new Error("there was always an endpoint to pick");
    if (batch >= 0) samples.push(elapsed / BATCH_CALLS);
  }
  const { median = 0, min = 0, max = 0 } = summarise(samples) ?? {};
  const range = `${min.toFixed(0)}..${max.toFixed(0)}`;
  return `${median.toFixed(0).padStart(6)} ns (${range}) ${median <= TO_REACH_NS ? "✓" : "✗"}`;
}

console.log(`one pick of ${ENDPOINTS} endpoints, to reach: ≤ ${TO_REACH_NS} ns; Bun ${Bun.version}`);
for (const balance of BALANCERS) {
  for (const situation of SITUATIONS) console.log(`${balance}, ${situation}`.padEnd(40), measure(balance, situation));
}
