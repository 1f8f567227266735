// What it costs to pick one of 1,000 endpoints, by each balancer. No socket and no other program: `Backend.pick` alone, in a loop, in the process that
// runs this, with counts that change from pick to pick as they do under load.
// `idle`: no endpoint has a connection. `tied`: all have equally many. `busy`: each has
// another number of them, and of seven weights one. `limited`: all but one in ten are at their limits. `ejected`: all but one in ten are ejected.
// On an Intel Xeon with two CPUs (Bun 1.4.5, November 2026), medians in nanoseconds, from the best situation to the worst: least_connections 1,590 to 1,800,
// round_robin 1,310 to 1,820, least_latency 1,590 to 1,620, source_hash 110 to 220, random 160 to 320, power_of_two 270 to 360; where nine in ten are at their limits
// these two draw some ten times and now and then go through all, 450 and 700 to 1,200. With atomic loads of the counts a pass over all would be 10,000.
// The last lines are what does not happen at each pick: after a change of an endpoint's state (and once a second) all are looked at, some 27,000 ns, and once in
// 50 ms least_latency reads all latencies anew, with that 65,000 ns.
import { Backend } from "../../src/proxy/balance.ts";
import { privateCounts } from "../../src/snapshot/counts.ts";
import type { BackendSpec, EndpointSpec } from "../../src/snapshot/snapshot.ts";
import { mulberry32 } from "../../test/support/sim-schedule.ts";
import { backendSpec, endpointSpec } from "../../test/support/sim-snapshot.ts";
import type { Micro } from "./micro.ts";

const ENDPOINTS = 1000;
/** What this project set itself for a pick, in nanoseconds. */
const BUDGET = 2000;
/** For one that comes after a change of an endpoint's state, and once in 50 ms for least_latency: all endpoints are looked at. */
const LOOK_BUDGETS = { least_connections: 50_000, least_latency: 120_000 } as const;

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

function pick(balance: BackendSpec["balance"], situation: Situation): Micro {
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
  let turn = 0;
  const call = (): void => {
    turn = (turn + 1) & 255;
    const index = backend.pick([], sources[turn]);
    if (index < 0) throw new Error("there was always an endpoint to pick");
    if (situation === "idle") return;
    // One comes and another one goes.
    counts.add(index);
    counts.subtract(index);
  };
  return { name: `picker, ${ENDPOINTS} endpoints: ${balance}, ${situation}`, budget: BUDGET, call };
}

/** A pick that comes after a change, and so has to look at everything. */
function look(balance: "least_connections" | "least_latency"): Micro {
  const counts = privateCounts();
  const endpoints = Array.from({ length: ENDPOINTS }, (_, slot) => endpointSpec(slot));
  let nowMs = Date.now();
  let turn = 0;
  const backend = new Backend(backendSpec({ balance, endpoints }), { counts, wallClockMs: () => nowMs });
  for (const { slot } of endpoints) counts.table.states.setLatency(slot, 1000, nowMs);
  const call = (): number => {
    nowMs += 60;
    turn += 1;
    counts.table.states.setHealth(turn & 511, (turn & 512) === 0 ? "up" : "down");
    return backend.pick([]);
  };
  return { name: `picker: ${balance}, after a change`, budget: LOOK_BUDGETS[balance], call };
}

/** See micro.ts. */
export const MICRO: readonly Micro[] = [
  ...BALANCERS.flatMap((balance) => SITUATIONS.map((situation) => pick(balance, situation))),
  look("least_connections"),
  look("least_latency"),
];
