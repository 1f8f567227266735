// What connections are counted for, and that bytes are counted while they live. On the simulated network.

import { describe, expect, test } from "bun:test";
import { byteSums, listenerMeters } from "../../../src/control/meter-status.ts";
import { CountTable, DAEMON_SLOT, MAX_SLOTS, privateMemory } from "../../../src/snapshot/counts.ts";
import {
  BACKEND_METERS,
  BYTES_METERS,
  ENDPOINT_METERS,
  LISTENER_METERS,
  LONG_BOUNDS,
  POLICY_METERS,
  SHORT_BOUNDS,
} from "../../../src/snapshot/meters.ts";
import type { PolicySpec, Snapshot } from "../../../src/snapshot/snapshot.ts";
import { connectFailurePlace } from "../../../src/telemetry/outcomes.ts";
import { clientHello } from "../../sim/scripts.ts";
import type { HandshakeScript } from "../../support/sim-link.ts";
import {
  backendSpec,
  endpointSpec,
  listenerSpec,
  routeSpec,
  ruleSpec,
  SIM_TERMINATION,
} from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

const LISTENER = listenerSpec();
const BACKEND = backendSpec();
const BYTES = routeSpec().bytesMeter;

function counted(sim: SimWorker, routes = LISTENER.routes): ReturnType<typeof listenerMeters> {
  const blocks = [{ listener: LISTENER.name, backend: BACKEND.name, place: BYTES }];
  const { meters } = sim.worker;
  return listenerMeters(meters, { ...LISTENER, routes }, byteSums(meters, blocks));
}

describe("bytes", () => {
  test("are counted each second while a connection lives, and the rest at its end, each once", () => {
    const sim = new SimWorker();
    const client = sim.connect();
    const { meters } = sim.worker;
    const bytes = (): number[] => [meters.read(BYTES + BYTES_METERS.up), meters.read(BYTES + BYTES_METERS.down)];
    client.send("x".repeat(100));
    sim.server.send("y".repeat(30));
    sim.settle(10);
    expect(bytes()).toEqual([0, 0]);
    sim.settle(1100);
    expect(bytes()).toEqual([100, 30]);
    sim.settle(3000);
    expect(bytes()).toEqual([100, 30]);
    client.send("x");
    sim.settle(1100);
    expect(bytes()).toEqual([101, 30]);
    sim.server.send("the end");
    sim.server.link.farFinish();
    client.link.farFinish();
    sim.settle(10);
    expect(bytes()).toEqual([101, 37]);
    expect(sim.records).toMatchObject([{ bytesUp: 101, bytesDown: 37 }]);
    // Nobody looks any more.
    expect(sim.runtime.clock.armed).toBe(0);
  });

  test("of more connections than are looked at in one turn, that come and go meanwhile", () => {
    const sim = new SimWorker();
    const clients = Array.from({ length: 4500 }, () => sim.connect());
    for (const client of clients) client.send("ab");
    sim.settle(20);
    for (const client of clients.filter((_, index) => index % 3 === 0)) client.link.farResetNow();
    sim.settle(1200);
    expect(sim.worker.meters.read(BYTES + BYTES_METERS.up)).toBe(9000);
    for (const client of clients.filter((_, index) => index % 3 === 1)) client.send("c");
    sim.settle(1200);
    expect(sim.worker.meters.read(BYTES + BYTES_METERS.up)).toBe(10_500);
    sim.worker.abort();
    expect(sim.worker.meters.read(BYTES + BYTES_METERS.up)).toBe(10_500);
  });
});

test("an end has its reason, and its length is that of the whole connection", () => {
  const sim = new SimWorker();
  const client = sim.connect();
  sim.settle(7000);
  client.link.farResetNow();
  sim.settle(10);
  sim.connect().link.farFinish();
  sim.server.link.farFinish();
  sim.settle(10);
  expect(counted(sim).closed).toEqual({ downstream_reset: 1, completed: 1 });
  const { counts, sumSeconds } = sim.worker.meters.histogram(
    BACKEND.meter + BACKEND_METERS.connectionSeconds,
    LONG_BOUNDS,
  );
  expect([counts[0], counts[5], counts.length]).toEqual([1, 1, 15]);
  expect(sumSeconds).toBeWithin(7, 7.1);
});

test("whoever waited for a place and went is counted as accepted and as ended", () => {
  const size = { rows: 4, columns: MAX_SLOTS };
  const table = new CountTable(privateMemory(CountTable.bytes(size)), size);
  const [own, others] = [table.claim(1), table.claim(2)];
  if (own === null || others === null) throw new Error("rows are free");
  const sim = new SimWorker({ snapshot: { maxConnections: 1 }, counts: own });
  // Another process has been quicker.
  others.add(DAEMON_SLOT);
  const waiting = sim.connect();
  expect(table.traffic(LISTENER.slot, "opened")).toBe(0);
  waiting.link.farResetNow();
  sim.settle(1000);
  expect(counted(sim).closed).toEqual({ downstream_reset: 1 });
  expect([table.traffic(LISTENER.slot, "opened"), table.total(LISTENER.slot)]).toEqual([1, 0]);
});

describe("attempts to connect", () => {
  test("are timed when they succeed, and have their code when they fail", () => {
    const endpoints = [endpointSpec(0), endpointSpec(1)];
    const codes = ["ECONNREFUSED", "EHOSTUNREACH", "EPROTOTYPE"];
    const sim = new SimWorker({
      snapshot: { backends: [backendSpec({ endpoints, connectAttempts: 2, balance: "round_robin" })] },
      dialled: (server, address) =>
        address.kind === "tcp" && address.host === endpoints[0]?.host
          ? { kind: "fails", afterMs: 1, code: codes[sim.servers.length % 3] ?? "" }
          : { kind: "connects", afterMs: 20, program: server },
    });
    for (let count = 0; count < 6; count++) {
      sim.connect();
      sim.settle(100);
    }
    const { meters } = sim.worker;
    const failures = ["ECONNREFUSED", "EHOSTUNREACH", "other", "ETIMEDOUT"].map((code) =>
      meters.read((endpoints[0]?.meter ?? 0) + ENDPOINT_METERS.failures + connectFailurePlace(code)),
    );
    expect(failures.reduce((sum, count) => sum + count, 0)).toBe(
      sim.worker.counts.table.traffic(endpoints[0]?.slot ?? 0, "failed"),
    );
    expect(failures[3]).toBe(0);
    expect(failures.slice(0, 3).filter((count) => count > 0).length).toBeGreaterThan(0);
    const { counts, sumSeconds } = meters.histogram(BACKEND.meter + BACKEND_METERS.connectSeconds, SHORT_BOUNDS);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(6);
    expect(sumSeconds).toBeWithin(0.12, 0.5);
  });

  test("a client for whom there is no endpoint is counted at the backend", () => {
    const endpoints = [endpointSpec(0, { state: "drain" })];
    const sim = new SimWorker({ snapshot: { backends: [backendSpec({ endpoints })] } });
    sim.connect();
    sim.settle(100);
    expect(counted(sim).closed).toEqual({ no_endpoint: 1 });
    expect(sim.worker.meters.read(BACKEND.meter + BACKEND_METERS.noEndpoint)).toBe(1);
  });
});

describe("handshakes and policies", () => {
  const routes = [routeSpec({ tls: "terminate", termination: SIM_TERMINATION, policy: 0 })];

  function sim(policy: Partial<PolicySpec> = {}): SimWorker {
    const clients = { name: "clients", mode: "enforce", meter: 92_000, rules: [ruleSpec()], ...policy } as const;
    const snapshot: Partial<Snapshot> = { listeners: [listenerSpec({ routes })], policies: [clients] };
    return new SimWorker({ snapshot });
  }

  function shaking(outcome: HandshakeScript["outcome"], delayMs = 5): Probe {
    return new Probe(() => {}, { hello: clientHello("a.example"), outcome, delayMs, certificate: null });
  }

  function decisions({ worker: { meters } }: SimWorker): readonly number[] {
    return Object.values(POLICY_METERS).map((at) => meters.read(92_000 + at));
  }

  test("each has its result, and those that succeed their length", () => {
    const worker = sim();
    for (const outcome of ["secured", "secured", "certificate", "handshake", "silence"] as const) {
      worker.connect({ client: shaking(outcome) });
      worker.settle(3000);
    }
    const client = shaking("secured", 500);
    worker.connect({ client });
    worker.worker.abort();
    expect(counted(worker, routes).handshakes).toEqual({
      ...{ ok: 2, failed: 1, timeout: 1, certificate_rejected: 1, overload: 0, abandoned: 1 },
    });
    const at = LISTENER.meter + LISTENER_METERS.handshakeSeconds;
    const { counts } = worker.worker.meters.histogram(at, SHORT_BOUNDS);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(2);
    expect(decisions(worker)).toEqual([2, 0, 0]);
  });

  test("whom a policy denies has ended its handshake all the same", () => {
    const worker = sim({ rules: [] });
    worker.connect({ client: shaking("secured") });
    worker.settle(100);
    expect(worker.reasons).toEqual(["policy_denied"]);
    expect(counted(worker, routes).handshakes).toMatchObject({ ok: 1, abandoned: 0 });
    expect(decisions(worker)).toEqual([0, 1, 0]);
  });

  test("whom it would deny in shadow mode is counted as that", () => {
    const worker = sim({ mode: "shadow", rules: [] });
    worker.connect({ client: shaking("secured") });
    worker.settle(100);
    expect(worker.reasons).toEqual([]);
    expect(decisions(worker)).toEqual([0, 0, 1]);
  });
});
