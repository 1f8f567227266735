// What becomes of open connections when probes find their endpoint down.

import { expect, test } from "bun:test";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";
import { SimWorker } from "../../support/sim-worker.ts";

function simWith(onDown: "keep" | "close"): SimWorker {
  const endpoints = [endpointSpec(1, { name: "a" }), endpointSpec(2, { name: "b" })];
  return new SimWorker({ snapshot: { backends: [backendSpec({ onDown, endpoints, balance: "round_robin" })] } });
}

test("close: those of the endpoint are reset within a second, on both legs, and no others", () => {
  const sim = simWith("close");
  const clients = Array.from({ length: 6 }, () => sim.connect());
  const { states } = sim.worker.counts.table;
  sim.settle(2000);
  expect(sim.records).toEqual([]);
  states.setHealth(1, "down");
  sim.settle(1000);
  expect(
    sim.records.map(({ endpoint, closeReason, closeSide, termination, detail }) => ({
      endpoint,
      closeReason,
      closeSide,
      termination,
      detail,
    })),
  ).toEqual(
    Array(3).fill({
      endpoint: "a",
      closeReason: "endpoint_down",
      closeSide: "upstream",
      termination: "DD",
      detail: "a",
    }),
  );
  expect(clients.map(({ resets, fins }) => resets - fins).filter((resets) => resets === 1)).toHaveLength(3);
  expect(sim.servers.filter(({ resets }) => resets === 1)).toHaveLength(3);
  // Down for longer is no reason to do it again: who is sent there now is sent there because nobody else is left.
  states.setHealth(2, "down");
  sim.settle(1000);
  expect(sim.records).toHaveLength(6);
  states.setHealth(1, "up");
  sim.settle(1000);
  const client = sim.connect();
  sim.settle(3000);
  expect([client.resets, sim.records.length]).toEqual([0, 6]);
  states.setHealth(1, "down");
  sim.settle(1000);
  expect(sim.records).toHaveLength(7);
});

test("keep: nothing happens to them, and nobody looks", () => {
  const sim = simWith("keep");
  sim.connect();
  sim.worker.counts.table.states.setHealth(1, "down");
  sim.worker.counts.table.states.setHealth(2, "down");
  sim.settle(5000);
  expect(sim.records).toEqual([]);
});
