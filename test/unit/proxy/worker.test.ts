import { describe, expect, test } from "bun:test";
import { backendSpec, endpointSpec, listenerSpec } from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

describe("drain", () => {
  test("without connections is over as soon as handshakes that were under way would have shown", async () => {
    const sim = new SimWorker();
    const drained = sim.plane.drain([]);
    sim.settle(150);
    expect(await drained).toBe(0);
    expect(sim.runtime.clock.armed).toBe(0);
  });

  test("accepts nobody more, lets what there is finish, and is over with the last of it", async () => {
    const sim = new SimWorker();
    const client = sim.connect();
    const drained = sim.plane.drain([]);
    expect(() => sim.connect()).toThrow("nobody listens there");
    client.send("still here");
    sim.settle(500);
    expect(sim.server.text).toBe("still here");
    client.link.farFinish();
    sim.server.link.farFinish();
    sim.settle();
    expect(sim.reasons).toEqual(["completed"]);
    expect(await drained).toBe(0);
    expect(sim.runtime.clock.armed).toBe(0);
  });

  test("does not accept again when a listener that was full empties", () => {
    const sim = new SimWorker({ snapshot: { maxConnections: 1 } });
    const client = sim.connect();
    void sim.plane.drain([]);
    client.link.farResetNow();
    sim.settle();
    expect(sim.schedule.violations).toEqual([]);
  });

  test("cuts what remains after drain_timeout, and tells how many those were", async () => {
    const sim = new SimWorker({ snapshot: { drainTimeoutMs: 1000 } });
    const clients = [sim.connect(), sim.connect(), sim.connect()];
    const drained = sim.plane.drain([]);
    clients[0]?.link.farResetNow();
    sim.settle(900);
    expect(sim.worker.connectionCount).toBe(2);
    sim.settle(200);
    expect(sim.reasons).toEqual(["downstream_reset", "drain_timeout", "drain_timeout"]);
    expect(clients.map(({ resets, fins }) => [resets, fins]).slice(1)).toEqual([
      [1, 0],
      [1, 0],
    ]);
    expect(await drained).toBe(2);
  });

  test("ends connections that are still being dialled or peeked at, too", async () => {
    const sim = new SimWorker({
      snapshot: {
        drainTimeoutMs: 100,
        backends: [backendSpec({ connectTimeoutMs: 60_000 })],
        listeners: [
          listenerSpec(),
          listenerSpec({
            name: "behind-proxy",
            address: { kind: "tcp", host: "127.0.0.1", port: 2 },
            acceptProxyProtocol: true,
            trustedSources: ["10.0.0.0/8"],
            peekTimeoutMs: 60_000,
          }),
        ],
      },
      dialled: () => ({ kind: "silence" }),
    });
    sim.connect();
    sim.connect({ listener: 1 });
    const drained = sim.plane.drain([]);
    sim.settle(200);
    expect(await drained).toBe(2);
    expect(sim.records).toMatchObject([
      { closeReason: "drain_timeout", termination: "KC" },
      { closeReason: "drain_timeout", termination: "KR" },
    ]);
    expect(sim.runtime.clock.armed).toBe(0);
  });

  test("abort cuts it short, and counts", async () => {
    const sim = new SimWorker();
    sim.connect();
    const drained = sim.plane.drain([]);
    sim.worker.abort();
    expect(await drained).toBe(1);
  });
});

test("those who wait in the queue when a drain begins are served, and newcomers are not", async () => {
  const sim = new SimWorker({ snapshot: { maxConnections: 1 } });
  const first = sim.connect();
  const second = sim.connect();
  const drained = sim.plane.drain([]);
  expect(() => sim.connect()).toThrow("nobody listens there");
  first.link.farResetNow();
  sim.settle(150);
  expect(second.isConnected).toBe(true);
  sim.settle(1000);
  expect(await drained).toBe(1);
  expect(sim.runtime.clock.armed).toBe(0);
});

describe("dialling", () => {
  const backends = [
    backendSpec({ connectAttempts: 3, endpoints: [endpointSpec(0), endpointSpec(1), endpointSpec(2)] }),
  ];

  test("tries another endpoint, counts each only while it is tried, and delivers what the client had sent", () => {
    let dials = 0;
    const sim = new SimWorker({
      snapshot: { backends },
      dialled: (server) => {
        dials++;
        if (dials === 1) return { kind: "fails", afterMs: 10, code: "ECONNREFUSED" };
        return dials === 2 ? { kind: "silence" } : { kind: "connects", afterMs: 10, program: server };
      },
    });
    const client = sim.connect();
    client.send("hello");
    sim.settle(600);
    expect(sim.server.text).toBe("hello");
    const counts = backends[0]?.endpoints.map((endpoint) => sim.worker.backendNamed("backend")?.activeOf(endpoint));
    expect(counts?.toSorted()).toEqual([0, 0, 1]);
    client.link.farResetNow();
    sim.settle();
    expect(sim.records).toMatchObject([{ attempts: 3, closeReason: "downstream_reset" }]);
  });

  test("none answers: the client is reset, never ended in order, and the last failure is named", () => {
    const sim = new SimWorker({
      snapshot: { backends },
      dialled: () => ({ kind: "fails", afterMs: 1, code: "EHOSTUNREACH" }),
    });
    const client = sim.connect();
    expect([client.resets, client.fins]).toEqual([1, 0]);
    expect(sim.records).toMatchObject([
      { attempts: 3, closeReason: "connect_refused", endpoint: "", termination: "SC" },
    ]);
    expect(sim.records[0]?.detail).toEndWith(": EHOSTUNREACH");
  });

  test("every endpoint is at its limit: no_endpoint, and nobody is dialled", () => {
    const full = [backendSpec({ endpoints: [endpointSpec(0, { maxConnections: 1 })] })];
    const sim = new SimWorker({ snapshot: { backends: full } });
    sim.connect();
    const second = sim.connect({ client: new Probe() });
    expect([second.resets, sim.servers.length]).toEqual([1, 1]);
    expect(sim.records).toMatchObject([{ attempts: 0, closeReason: "no_endpoint" }]);
  });
});

test("a defect on the way ends that connection, by name, and gives back what it held", () => {
  const sim = new SimWorker({
    dialled: () => {
      throw new Error("this cannot be");
    },
  });
  const client = sim.connect();
  expect([client.resets, client.fins]).toEqual([1, 0]);
  expect(sim.records).toMatchObject([{ closeReason: "internal_error", detail: "this cannot be", termination: "IC" }]);
  expect([sim.worker.connectionCount, sim.worker.backendNamed("backend")?.activeOf(endpointSpec(0))]).toEqual([0, 0]);
});
