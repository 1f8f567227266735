// Situations that chance brings together too rarely: two things that happen in the same moment, put together by hand on the simulated
// network.

import { describe, expect, test } from "bun:test";
import { Ending } from "../../src/proxy/ending.ts";
import { Leg } from "../../src/proxy/leg.ts";
import { listenerSpec, routeSpec, ruleSpec, SIM_TERMINATION } from "../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../support/sim-worker.ts";
import { clientHello } from "./scripts.ts";

describe("in the moment in which a dial connects", () => {
  for (const what of ["the client resets", "the worker gives up"]) {
    test(`${what}: the new socket is closed and nothing stays counted`, () => {
      const client = new Probe();
      const sim: SimWorker = new SimWorker({
        dialled: (server) => {
          server.connected = (link) => {
            Probe.prototype.connected.call(server, link);
            if (what === "the client resets") client.link.farResetNow();
            else sim.worker.abort();
          };
          return { kind: "connects", afterMs: 5, program: server };
        },
      });
      sim.connect({ client });
      expect(sim.server.resets).toBe(1);
      expect(sim.reasons).toEqual([what === "the client resets" ? "downstream_reset" : "drain_timeout"]);
      expectQuiet(sim);
    });
  }

  test("the server speaks and ends: the client gets both", () => {
    const sim = new SimWorker({
      dialled: (server) => {
        server.connected = (link) => {
          Probe.prototype.connected.call(server, link);
          server.send("220 ready");
          link.farFinish();
        };
        return { kind: "connects", afterMs: 5, program: server };
      },
    });
    const client = sim.connect();
    expect([client.text, client.fins]).toEqual(["220 ready", 1]);
    client.link.farFinish();
    sim.settle();
    expect(sim.reasons).toEqual(["completed"]);
    expectQuiet(sim);
  });
});

test("a connection that ends while it dials cancels the dial at once", () => {
  const sim = new SimWorker({ dialled: () => ({ kind: "silence" }) });
  const client = sim.connect();
  // Of the dial, and two of the worker that has a connection.
  expect(sim.runtime.clock.armed).toBe(3);
  client.link.farResetNow();
  sim.settle(0);
  expect(sim.reasons).toEqual(["downstream_reset"]);
  expectQuiet(sim);
});

test("a worker that gives up in the moment in which TLS is secured leaves no socket", () => {
  const sim = terminating();
  const client = new Probe(() => {}, {
    hello: clientHello("a.example"),
    outcome: "secured",
    delayMs: 1,
    certificate: null,
  });
  client.secured = () => sim.worker.abort();
  sim.connect({ client });
  expect(client.resets).toBe(1);
  expect(sim.reasons).toEqual(["drain_timeout"]);
  expectQuiet(sim);
});

test("bytes and FIN that a client sends while its server is dialled all arrive", () => {
  const sim = new SimWorker({ dialled: (server) => ({ kind: "connects", afterMs: 100, program: server }) });
  const client = sim.connect();
  client.send("request");
  client.link.farFinish();
  sim.settle(50);
  expect(sim.reasons).toEqual([]);
  sim.settle(100);
  expect([sim.server.text, sim.server.fins]).toEqual(["request", 1]);
  sim.server.link.farFinish();
  sim.settle();
  expect(sim.reasons).toEqual(["completed"]);
});

describe("a write that finds a reset", () => {
  test("does not cut what the broken side had sent, and passes on no FIN", () => {
    // Room for ten bytes: the rest of what the server sent waits while its leg is paused.
    const sim = new SimWorker({ quirks: { sendBufferBytes: 10, maxReadBytes: 20 } });
    const client = sim.connect();
    client.link.farRead(false);
    sim.server.send("x".repeat(100));
    sim.settle();
    sim.server.link.farResetUntold(60_000);
    client.send("y");
    sim.settle();
    client.link.farRead(true);
    sim.settle(1000);
    expect([client.text, client.fins, client.resets]).toEqual(["x".repeat(100), 0, 1]);
    expect(sim.reasons).toEqual(["upstream_reset"]);
    expect(sim.records[0]).toMatchObject({ bytesUp: 0, bytesDown: 100 });
    expectQuiet(sim);
  });

  test("does not cut a stream that had ended in order, and passes on its FIN", () => {
    const sim = new SimWorker({ quirks: { sendBufferBytes: 10, maxReadBytes: 20 } });
    const client = sim.connect();
    sim.server.send("x".repeat(100));
    sim.server.link.farFinish();
    sim.settle(1000);
    sim.server.link.farResetUntold(60_000);
    client.send("y");
    sim.settle();
    expect([client.text, client.fins, client.resets]).toEqual(["x".repeat(100), 1, 0]);
    client.link.farFinish();
    sim.settle();
    expect(sim.reasons).toEqual(["upstream_reset"]);
    expectQuiet(sim);
  });
});

test("what is left of a broken connection is given up when it takes nothing for a linger", () => {
  const sim = new SimWorker({ quirks: { sendBufferBytes: 10 } });
  const client = sim.connect();
  client.link.farRead(false);
  sim.server.send("x".repeat(100));
  sim.settle();
  sim.server.link.farResetNow();
  // What waits in the kernel is seen to wait only by a second look.
  sim.settle(9900);
  expect(sim.reasons).toEqual([]);
  sim.settle(200);
  expect(sim.reasons).toEqual(["upstream_reset"]);
  expectQuiet(sim);
});

test("ending a connection again, for another reason, does nothing", () => {
  const sim = new SimWorker();
  sim.connect();
  const leg = sim.runtime.links[0]?.socket?.data;
  if (!(leg instanceof Leg)) throw new Error("an accepted socket carries its leg");
  leg.connection.end(new Ending("idle_timeout"));
  leg.connection.end(new Ending("lifetime_exceeded"));
  sim.settle();
  expect(sim.reasons).toEqual(["idle_timeout"]);
  expectQuiet(sim);
});

function terminating(): SimWorker {
  const route = routeSpec({ tls: "terminate", termination: SIM_TERMINATION, policy: 0 });
  return new SimWorker({
    snapshot: {
      policies: [{ name: "all", mode: "enforce", meter: 92_000, rules: [ruleSpec()] }],
      listeners: [listenerSpec({ routes: [route] })],
    },
  });
}

function expectQuiet(sim: SimWorker): void {
  expect(sim.schedule.violations).toEqual([]);
  expect(sim.worker.connectionCount).toBe(0);
  expect(sim.runtime.clock.armed).toBe(0);
  expect(sim.runtime.links.filter(({ closeTold }) => closeTold === null)).toEqual([]);
}
