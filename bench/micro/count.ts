// What counting for metrics costs: all that one connection is counted for in its life, and a look at one that is open for bytes to be counted. No socket and no
// other program.
//
// Two cores, Bun 1.4.5, medians of 15 runs of 200,000, in ns, twice: one addition 10 and 20, a time in a histogram 26, a whole connection 166 and 168, a look at one that
// was silent 14 and 21, at one that was not 33 and 35.
import type { Policy } from "../../src/proxy/authorize.ts";
import type { Connection } from "../../src/proxy/connection.ts";
import { countBytes, countDecision, countEnd, countHandshake } from "../../src/proxy/count.ts";
import { Leg } from "../../src/proxy/leg.ts";
import { privateMemory } from "../../src/snapshot/counts.ts";
import { BACKEND_METERS, METERS_BYTES, Meters, SHORT_BOUNDS } from "../../src/snapshot/meters.ts";
import type { Micro } from "./micro.ts";

const meters = new Meters(privateMemory(METERS_BYTES), 0);
const verdict = { allowed: true, rule: "allow[0]" };
const policy = { meter: 20_000 } as Policy;

/** As much of a connection as counting looks at. */
function connection(index: number): Connection {
  const self = {
    listener: { worker: { meters, runtime: { preciseNowMs: () => 1000 + (index % 100) } } },
    countedBy: { meter: (index % 200) * 96 },
    backend: { spec: { meter: 30_000 + (index % 20) * 48 } },
    route: { bytesMeter: 40_000 + (index % 200) * 2 },
    phase: "relay",
    acceptedPreciseMs: index % 1000,
    meteredUp: 0,
    meteredDown: 0,
  } as unknown as Connection;
  return Object.assign(self, { downstream: new Leg(self), upstream: new Leg(self) });
}

const connections = Array.from({ length: 10_000 }, (_, index) => connection(index));

let turn = 0;

function counting(what: string, budget: number, act: (connection: Connection) => void): Micro {
  const call = (): void => {
    turn = (turn + 1) % connections.length;
    act(connections[turn] as Connection);
  };
  return { name: `meters: ${what}`, budget, call };
}

/** See micro.ts. */
export const MICRO: readonly Micro[] = [
  counting("one addition", 50, () => meters.add(77)),
  counting("a time in a histogram", 80, () => meters.observe(80, SHORT_BOUNDS, 3.2)),
  counting("a whole connection: handshake, policy, connect, bytes, end", 500, (each) => {
    each.downstream.bytesRead += 700;
    each.upstream.bytesRead += 1500;
    countHandshake(each, 2.5);
    countDecision(each, policy, verdict);
    meters.observe((each.backend?.spec.meter ?? 0) + BACKEND_METERS.connectSeconds, SHORT_BOUNDS, 0.3);
    countEnd(each, { closeReason: "completed", durationMs: 1 });
  }),
  counting("a look at an open connection that was silent", 80, countBytes),
  counting("a look at one that was not", 120, (each) => {
    each.downstream.bytesRead += 700;
    each.upstream.bytesRead += 1500;
    countBytes(each);
  }),
];
