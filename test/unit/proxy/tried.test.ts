// What the record tells of the endpoints that were tried.

import { expect, test } from "bun:test";
import type { SimLink } from "../../support/sim-link.ts";
import type { DialPlan } from "../../support/sim-runtime.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";
import { type Probe, SimWorker } from "../../support/sim-worker.ts";

const ENDPOINTS = [endpointSpec(1, { name: "a" }), endpointSpec(2, { name: "b" })];

/** The dials of one connection, in their order, go as `plans` say; null: it connects. */
function simWith(plans: readonly (Exclude<DialPlan, { kind: "connects" }> | null)[]): SimWorker {
  let dials = 0;
  return new SimWorker({
    snapshot: { backends: [backendSpec({ endpoints: ENDPOINTS, connectAttempts: 2, connectTimeoutMs: 3000 })] },
    dialled: (server: Probe) => plans[dials++] ?? { kind: "connects", afterMs: 0, program: server },
  });
}

const REFUSES = { kind: "fails", afterMs: 5, code: "ECONNREFUSED" } as const;
const results = (sim: SimWorker): readonly string[] | undefined =>
  sim.records[0]?.tried.map(({ endpoint, result }) => `${endpoint} ${result}`);

test("nothing when the first one takes the connection", () => {
  const sim = simWith([null]);
  sim.connect().link.farReset();
  sim.settle();
  expect(sim.records).toMatchObject([{ attempts: 1, tried: [], phase: "relay", error: "ECONNRESET" }]);
});

test("each in its order with its error and its time, and the one that took it", () => {
  const sim = simWith([REFUSES, null]);
  const client = sim.connect();
  sim.settle(20);
  client.link.farReset();
  sim.settle();
  expect(results(sim)).toEqual(["a ECONNREFUSED", "b connected"]);
  expect(sim.records[0]?.tried[0]?.ms).toBeGreaterThanOrEqual(5);
});

test("the only one, when it has failed", () => {
  const sim = simWith([REFUSES, REFUSES]);
  sim.connect();
  sim.settle(20);
  expect(results(sim)).toEqual(["a ECONNREFUSED", "b ECONNREFUSED"]);
  expect(sim.records).toMatchObject([{ closeReason: "connect_refused", phase: "connect", error: "ECONNREFUSED" }]);
});

test("the one that is being dialled when the client leaves", () => {
  const sim = simWith([REFUSES, { kind: "silence" }]);
  const client = sim.connect();
  sim.settle(1000);
  client.link.farReset();
  sim.settle();
  expect(results(sim)).toEqual(["a ECONNREFUSED", "b cancelled"]);
  expect(sim.records).toMatchObject([{ closeReason: "downstream_reset", termination: "CC", phase: "connect" }]);
  expect(Math.round((sim.records[0]?.tried[1]?.ms ?? 0) / 100)).toBe(10);
});

for (const [how, leave] of [
  ["before its PROXY header could be sent", (link: SimLink) => link.farResetUntold(50)],
  ["in the turn in which it was connected", (link: SimLink) => link.farResetNow()],
] as const) {
  test(`one that took the connection and reset it ${how}, and the one that took it then`, () => {
    let dials = 0;
    const sim = new SimWorker({
      snapshot: { backends: [backendSpec({ endpoints: ENDPOINTS, connectAttempts: 2, sendProxyProtocol: "v2" })] },
      dialled(server: Probe) {
        const isFirst = dials++ === 0;
        const connected = server.connected.bind(server);
        server.connected = (link) => {
          connected(link);
          if (isFirst) leave(link);
        };
        return { kind: "connects", afterMs: 0, program: server };
      },
    });
    const client = sim.connect();
    sim.settle(200);
    client.link.farReset();
    sim.settle();
    expect(results(sim)).toEqual(["a ECONNRESET", "b connected"]);
    expect(sim.records).toMatchObject([{ closeReason: "downstream_reset", phase: "relay", endpoint: "b" }]);
  });
}
