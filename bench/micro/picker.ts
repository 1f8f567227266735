// What it costs to pick one of 1,000 endpoints, by each balancer. No socket and no other program: `Backend.pick` alone, in a loop, in the process that
// runs this, with counts that change from pick to pick as they do under load.
//   bun bench/micro/picker.ts
// Each figure is the median and the range of batches that follow a warm-up. `idle`: no endpoint has a connection. `tied`: all have equally many. `busy`: each has
// another number of them, and of seven weights one. `limited`: all but one in ten are at their limits. `ejected`: all but one in ten are ejected.
// On an Intel Xeon with two CPUs (Bun 1.4.5, November 2026), medians in nanoseconds, from the best situation to the worst: least_connections 1,590 to 1,800,
// round_robin 1,310 to 1,820, least_latency 1,590 to 1,620, source_hash 110 to 220, random 170 to 1,080, power_of_two 300 to 500, and 1,900 where nine in ten
// are at their limits, for then it may have to go through all of them. With atomic loads of the counts it would be 10,000.
// The last lines are what does not happen at each pick: after a change of an endpoint's state (and once a second) all are looked at, some 27,000 ns, and once in
// 50 ms least_latency reads all latencies anew, with that 65,000 ns.
import { Backend } from "../../src/proxy/balance.ts";
import { privateCounts } from "../../src/snapshot/counts.ts";
import type { BackendSpec, EndpointSpec } from "../../src/snapshot/snapshot.ts";
import { mulberry32 } from "../../test/support/sim-schedule.ts";
import { backendSpec, endpointSpec } from "../../test/support/sim-snapshot.ts";
import { summarise } from "../results.ts";

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

/** Nanoseconds of a pick that comes after a change, and so has to look at everything. */
function measureLook(balance: BackendSpec["balance"]): string {
  const counts = privateCounts();
  const endpoints = Array.from({ length: ENDPOINTS }, (_, slot) => endpointSpec(slot));
  let nowMs = Date.now();
  const backend = new Backend(backendSpec({ balance, endpoints }), { counts, wallClockMs: () => nowMs });
  for (const { slot } of endpoints) counts.table.states.setLatency(slot, 1000, nowMs);
  const samples: number[] = [];
  for (let call = -1000; call < 1000; call += 1) {
    nowMs += 60;
    counts.table.states.setHealth(call & 511, (call & 512) === 0 ? "up" : "down");
    const startedAt = Bun.nanoseconds();
    backend.pick([]);
    if (call >= 0) samples.push(Bun.nanoseconds() - startedAt);
  }
  return `${(summarise(samples)?.median ?? 0).toFixed(0).padStart(6)} ns`;
}

for (const balance of ["least_connections", "least_latency"] as const)
  console.log(`${balance}, after a change`.padEnd(40), measureLook(balance));
