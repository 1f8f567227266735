// One snapshot after another on a worker with connections: what goes over at once, what stays as it was, and what happens to those who are there.

import { describe, expect, test } from "bun:test";
import { ProxyError } from "../../../src/base/errors.ts";
import type { ListenerSpec, Snapshot } from "../../../src/snapshot/snapshot.ts";
import {
  backendSpec,
  endpointSpec,
  listenerSpec,
  routeSpec,
  ruleSpec,
  SIM_TERMINATION,
  snapshotSpec,
} from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

const SECOND = listenerSpec({ name: "second", address: { kind: "tcp", host: "127.0.0.1", port: 2 } });

/** The next snapshot. */
function next(spec: Partial<Snapshot> = {}, generation = 2): Snapshot {
  return snapshotSpec({ ...spec, generation });
}

/** A client that connects where the worker listens now; false when nobody does. */
function arrives(sim: SimWorker, { address }: ListenerSpec, ip = "10.0.0.9"): Probe | false {
  const client = new Probe();
  const found = sim.runtime.connect(address, client, ip, 9999);
  sim.settle();
  return found && client;
}

/** Bytes go both ways between a client and the server that it was joined to. */
function flows(sim: SimWorker, client: Probe, server: Probe): boolean {
  const [up, down] = [`up ${server.text.length}`, `down ${client.text.length}`];
  client.send(up);
  server.send(down);
  sim.settle();
  return server.text.endsWith(up) && client.text.endsWith(down);
}

describe("listeners", () => {
  test("that stay are not bound anew, and neither they nor their connections notice", () => {
    const sim = new SimWorker();
    const client = sim.connect();
    const [listener] = sim.worker.listeners;
    sim.plane.apply(next());
    expect(sim.worker.listeners[0]).toBe(listener as never);
    expect(sim.worker.generation).toBe(2);
    expect(flows(sim, client, sim.server)).toBe(true);
    expect(sim.records).toEqual([]);
  });

  test("that stay under another name stay", () => {
    const sim = new SimWorker();
    const client = sim.connect();
    sim.plane.apply(next({ listeners: [listenerSpec({ name: "renamed" })] }));
    expect(sim.worker.listeners.map(({ spec }) => spec.name)).toEqual(["renamed"]);
    expect(flows(sim, client, sim.server)).toBe(true);
  });

  test("that are new accept, in the order of the config", () => {
    const sim = new SimWorker();
    sim.plane.apply(next({ listeners: [SECOND, listenerSpec()] }));
    expect(sim.worker.listeners.map(({ spec }) => spec.name)).toEqual(["second", "listener"]);
    expect(arrives(sim, SECOND)).toMatchObject({ isConnected: true });
  });

  test("that went accept nobody, and their connections have the drain time-out of the new snapshot", () => {
    const sim = new SimWorker({ snapshot: { listeners: [listenerSpec(), SECOND], drainTimeoutMs: 10 } });
    const stays = sim.connect();
    const stayed = sim.server;
    const goes = sim.connect({ listener: 1 });
    const went = sim.server;
    sim.plane.apply(next({ drainTimeoutMs: 1000 }));
    expect(arrives(sim, SECOND)).toBe(false);
    sim.settle(900);
    expect(flows(sim, goes, went)).toBe(true);
    sim.settle(200);
    expect(sim.records).toMatchObject([{ closeReason: "drain_timeout", detail: "the listener was removed" }]);
    expect([goes.resets, goes.fins]).toEqual([1, 0]);
    expect(flows(sim, stays, stayed)).toBe(true);
  });

  test("that went and came back are bound anew; who was there from before goes by the drain time-out all the same", () => {
    const sim = new SimWorker({ snapshot: { listeners: [listenerSpec(), SECOND] } });
    const old = sim.connect({ listener: 1 });
    sim.plane.apply(next());
    sim.settle(150);
    sim.plane.apply(next({ listeners: [listenerSpec(), SECOND] }, 3));
    const young = arrives(sim, SECOND);
    const server = sim.server;
    sim.settle(1100);
    expect(old.resets).toBe(1);
    expect(young && flows(sim, young, server)).toBe(true);
  });

  test("that cannot be bound: nothing has changed and nothing is open", () => {
    const sim = new SimWorker({ snapshot: { listeners: [listenerSpec()] } });
    const client = sim.connect();
    const third = listenerSpec({ name: "third", address: { kind: "tcp", host: "127.0.0.1", port: 3 } });
    const squatter = sim.runtime.bind(third.address);
    const changed = listenerSpec({ maxConnections: 1, allowSources: ["192.0.2.0/24"] });
    expect(() => sim.plane.apply(next({ listeners: [changed, SECOND, third] }))).toThrow("EADDRINUSE");
    expect([sim.worker.generation, sim.worker.listeners.length]).toEqual([1, 1]);
    expect(arrives(sim, SECOND)).toBe(false);
    expect(flows(sim, client, sim.server)).toBe(true);
    expect(arrives(sim, changed)).toMatchObject({ isConnected: true, resets: 0 });
    squatter.close();
    sim.plane.apply(next({ listeners: [changed, SECOND, third] }));
    expect(arrives(sim, third)).toMatchObject({ isConnected: true });
  });

  test("whose TLS cannot be built: nothing has changed and nothing is open", () => {
    const sim = new SimWorker();
    sim.runtime.serverContext = () => {
      throw new ProxyError("BAD_TLS_MATERIAL", "no");
    };
    const second = { ...SECOND, routes: [routeSpec({ tls: "terminate", termination: SIM_TERMINATION })] };
    expect(() => sim.plane.apply(next({ listeners: [listenerSpec(), second] }))).toThrow("no");
    expect([sim.worker.generation, arrives(sim, SECOND)]).toEqual([1, false]);
  });
});

describe("limits", () => {
  test("raised: those who wait come in at once; lowered: nobody is cut, and nobody comes in before there is room", () => {
    const sim = new SimWorker({ snapshot: { listeners: [listenerSpec({ maxConnections: 1 })] } });
    const clients = [sim.connect(), sim.connect(), sim.connect()];
    expect(clients.map(({ isConnected }) => isConnected)).toEqual([true, false, false]);
    sim.plane.apply(next({ listeners: [listenerSpec({ maxConnections: 2 })] }));
    sim.settle();
    expect(clients.map(({ isConnected }) => isConnected)).toEqual([true, true, false]);
    sim.plane.apply(next({ listeners: [listenerSpec({ maxConnections: 1 })] }, 3));
    clients[0]?.link.farResetNow();
    sim.settle();
    expect([clients[2]?.isConnected, sim.worker.connectionCount]).toEqual([false, 1]);
    clients[1]?.link.farResetNow();
    sim.settle();
    expect(clients[2]?.isConnected).toBe(true);
  });

  test("of the process, raised: every listener accepts again", () => {
    const listeners = [listenerSpec(), SECOND];
    const sim = new SimWorker({ snapshot: { maxConnections: 1, listeners } });
    sim.connect();
    const waiting = [sim.connect(), sim.connect({ listener: 1 })];
    sim.plane.apply(next({ maxConnections: 3, listeners }));
    sim.settle();
    expect(waiting.map(({ isConnected }) => isConnected)).toEqual([true, true]);
  });

  test("of a source: what was counted is given back when the limit is gone by then, and counts while it stays", () => {
    const limited = { listeners: [listenerSpec({ maxConnectionsPerSource: 1 })] };
    const sim = new SimWorker({ snapshot: limited });
    const first = sim.connect();
    sim.plane.apply(next());
    first.link.farResetNow();
    sim.settle();
    sim.plane.apply(next(limited, 3));
    expect(sim.connect()).toMatchObject({ resets: 0 });
    expect(sim.connect()).toMatchObject({ resets: 1 });
  });
});

describe("endpoints", () => {
  const two = [backendSpec({ endpoints: [endpointSpec(0), endpointSpec(1)] })];

  test("keep their counts: least connections goes on where it was", () => {
    const sim = new SimWorker({ snapshot: { backends: two } });
    for (let count = 0; count < 4; count++) sim.connect();
    const grown = [backendSpec({ endpoints: [endpointSpec(0), endpointSpec(1), endpointSpec(2)] })];
    sim.plane.apply(next({ backends: grown }));
    const counts = (): (number | undefined)[] =>
      [0, 1, 2].map((slot) => sim.worker.backendNamed("backend")?.activeOf(endpointSpec(slot)));
    expect(counts()).toEqual([2, 2, 0]);
    sim.connect();
    sim.connect();
    expect(counts()).toEqual([2, 2, 2]);
  });

  test("that went with their backend: connections go on, are given back, and the place counts right when it returns", () => {
    const backends = [backendSpec(), backendSpec({ name: "other", endpoints: [endpointSpec(1)] })];
    const toOther = listenerSpec({ routes: [routeSpec({ backend: 1 })] });
    const sim = new SimWorker({ snapshot: { backends, listeners: [toOther] } });
    const [first, second] = [sim.connect(), sim.connect()];
    const server = sim.server;
    sim.plane.apply(next({ backends: [backendSpec()], slotCount: 2 }));
    expect(sim.worker.backendNamed("other")).toBeUndefined();
    expect(flows(sim, second, server)).toBe(true);
    first.link.farResetNow();
    sim.settle();
    sim.plane.apply(next({ backends, listeners: [toOther] }, 3));
    expect(sim.worker.backendNamed("other")?.activeOf(endpointSpec(1))).toBe(1);
    second.link.farResetNow();
    sim.settle();
    expect(sim.worker.backendNamed("other")?.activeOf(endpointSpec(1))).toBe(0);
    expect(sim.schedule.violations).toEqual([]);
  });

  test("that take long to build for are built for in many turns of the event loop, and all is there before anybody goes by it", async () => {
    const sim = new SimWorker();
    const endpoints = Array.from({ length: 2000 }, (_, slot) => endpointSpec(slot, { name: `e${slot}` }));
    const published = sim.plane.publish(next({ backends: [backendSpec({ balance: "source_hash", endpoints })] }));
    let turns = 0;
    for (; sim.worker.generation === 1; turns++) await new Promise((resolve) => setImmediate(resolve));
    expect(turns).toBeGreaterThan(10);
    await published;
    expect(sim.worker.backendNamed("backend")?.makeSome()).toBe(false);
  });

  test("are chosen by the new snapshot from the next connection on, and a dial under way goes on to the old one", () => {
    const dials: string[] = [];
    const sim = new SimWorker({
      dialled: (server) => {
        dials.push("dial");
        return { kind: "connects", afterMs: 100, program: server };
      },
    });
    const early = sim.connect();
    sim.plane.apply(next({ backends: [backendSpec({ endpoints: [endpointSpec(1)] })] }));
    sim.settle(200);
    expect(dials).toHaveLength(1);
    expect(flows(sim, early, sim.server)).toBe(true);
    sim.connect();
    sim.settle(200);
    expect([0, 1].map((slot) => sim.worker.backendNamed("backend")?.activeOf(endpointSpec(slot)))).toEqual([1, 1]);
  });
});

describe("routes", () => {
  test("that went leave their connections alone, and take no new ones", () => {
    const ten = routeSpec({ name: "ten", match: { source: ["10.0.0.0/8"] } });
    const rest = routeSpec({ name: "rest", match: { source: ["192.0.2.0/24"] } });
    const sim = new SimWorker({ snapshot: { listeners: [listenerSpec({ routes: [ten, rest] })] } });
    const client = sim.connect();
    const server = sim.server;
    sim.plane.apply(next({ listeners: [listenerSpec({ routes: [rest] })] }));
    expect(flows(sim, client, server)).toBe(true);
    sim.connect();
    expect(sim.reasons).toEqual(["no_route"]);
  });
});

test("a snapshot after a drain has begun binds nothing, and what still drains is held to it", () => {
  const deny = { name: "all", mode: "enforce", meter: 92_000, rules: [ruleSpec({ action: "deny" })] } as const;
  const allow = { ...deny, rules: [ruleSpec()] };
  const listeners = [listenerSpec({ routes: [routeSpec({ policy: 0 })] })];
  const sim = new SimWorker({ snapshot: { policies: [allow], listeners } });
  sim.connect();
  void sim.plane.drain([]);
  sim.plane.apply(next({ policies: [deny], listeners: [...listeners, SECOND] }));
  sim.settle(100);
  expect(arrives(sim, SECOND)).toBe(false);
  expect(sim.records).toMatchObject([{ closeReason: "policy_revoked", policyRule: "deny[0]" }]);
});

test("a policy that stays as it is, applied a hundred times, ends nobody", () => {
  const policies = [{ name: "all", mode: "enforce", meter: 92_000, rules: [ruleSpec()] } as const];
  const listeners = [listenerSpec({ routes: [routeSpec({ policy: 0 })] })];
  const sim = new SimWorker({ snapshot: { policies, listeners } });
  const client = sim.connect();
  for (let generation = 2; generation < 102; generation++) sim.plane.apply(next({ policies, listeners }, generation));
  sim.settle(500);
  expect(flows(sim, client, sim.server)).toBe(true);
});
