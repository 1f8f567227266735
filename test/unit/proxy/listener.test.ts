// Admission: limits, sources, PROXY headers. On the simulated network, so that "waits" and "is refused" can be told apart exactly.

import { describe, expect, test } from "bun:test";
import { listenerSpec, routeSpec } from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

describe("max_connections", () => {
  test("newcomers wait unaccepted while it is reached, and come in when a connection ends", () => {
    const sim = withListener({ maxConnections: 2 });
    const [first, , third] = [sim.connect(), sim.connect(), sim.connect()];
    expect([third.isConnected, sim.worker.connectionCount]).toEqual([false, 2]);
    first.link.farResetNow();
    sim.settle();
    expect([third.isConnected, sim.worker.connectionCount]).toEqual([true, 2]);
    expect(sim.reasons).toEqual(["downstream_reset"]);
  });

  test("of the process holds for all listeners together", () => {
    const sim = new SimWorker({
      snapshot: {
        maxConnections: 1,
        listeners: [
          listenerSpec(),
          listenerSpec({ name: "second", address: { kind: "tcp", host: "127.0.0.1", port: 2 } }),
        ],
      },
    });
    const first = sim.connect();
    const second = sim.connect({ listener: 1 });
    expect(second.isConnected).toBe(false);
    first.link.farResetNow();
    sim.settle();
    expect(second.isConnected).toBe(true);
  });

  test("of the process never exceeds what the descriptor limit allows, two for each connection", () => {
    const sim = new SimWorker({ snapshot: { maxConnections: 1000 }, descriptorLimit: 256 + 2 * 3 });
    for (let count = 0; count < 5; count++) sim.connect();
    expect(sim.worker.connectionCount).toBe(3);
  });
});

describe("max_connections_per_source", () => {
  test("refuses the one too many, and only that source", () => {
    const sim = withListener({ maxConnectionsPerSource: 1 });
    const first = sim.connect();
    const second = sim.connect();
    sim.connect({ ip: "10.0.0.2" });
    expect(sim.records).toMatchObject([{ closeReason: "limit_reached", detail: "max_connections_per_source 1" }]);
    expect([second.resets, second.fins, sim.worker.connectionCount]).toEqual([1, 0, 2]);
    first.link.farResetNow();
    sim.settle();
    sim.connect();
    expect(sim.worker.connectionCount).toBe(2);
  });

  test("counts an IPv4 client and its mapped spelling as one", () => {
    const sim = withListener({ maxConnectionsPerSource: 1 });
    sim.connect({ ip: "10.0.0.1" });
    sim.connect({ ip: "::ffff:10.0.0.1" });
    expect(sim.reasons).toEqual(["limit_reached"]);
  });

  test("a refused connection does not lower the count of those that are held", () => {
    const sim = withListener({ maxConnectionsPerSource: 2 });
    for (let count = 0; count < 6; count++) sim.connect();
    expect(sim.reasons).toEqual(new Array(4).fill("limit_reached"));
  });
});

describe("allow_sources", () => {
  test("refuses everyone else, at once and with a reset", () => {
    const sim = withListener({ allowSources: ["10.0.0.0/30"] });
    const outside = sim.connect({ ip: "10.0.0.9" });
    sim.connect({ ip: "10.0.0.2" });
    expect(sim.records).toMatchObject([{ closeReason: "source_denied", detail: "not in allow_sources" }]);
    expect([outside.resets, outside.fins, sim.servers.length]).toEqual([1, 0, 1]);
  });
});

describe("behind a PROXY header", () => {
  const behind = { acceptProxyProtocol: true, trustedSources: ["10.1.0.0/24"], allowSources: ["10.0.0.0/24"] };

  test("the true source is what is logged, limited and allowed; the header is not passed on", () => {
    const sim = withListener({ ...behind, maxConnectionsPerSource: 1 });
    for (let count = 0; count < 2; count++) {
      const client = sim.connect({ ip: "10.1.0.7" });
      client.send("PROXY TCP4 10.0.0.5 10.9.9.9 4711 443\r\nhello");
      sim.settle();
    }
    expect(sim.server.text).toBe("hello");
    expect(sim.records).toMatchObject([
      { closeReason: "limit_reached", downstream: "10.0.0.5:4711", downstreamDirect: "10.1.0.7:2" },
    ]);
  });

  test("a source that the header names is judged, not the proxy's own", () => {
    const sim = withListener(behind);
    const client = sim.connect({ ip: "10.1.0.7" });
    client.send("PROXY TCP4 192.0.2.1 10.9.9.9 4711 443\r\n");
    sim.settle();
    expect(sim.records).toMatchObject([{ closeReason: "source_denied", downstream: "192.0.2.1:4711" }]);
  });

  test("whoever is not trusted is refused before a byte is read", () => {
    const sim = withListener(behind);
    sim.connect({ ip: "10.0.0.5" });
    expect(sim.records).toMatchObject([{ closeReason: "source_denied", detail: "not in trusted_sources" }]);
  });

  test("whoever was reset before it was accepted has no address, and is not taken for a unix socket", () => {
    const sim = withListener(behind);
    sim.connect({ ip: "" }).send("PROXY TCP4 10.0.0.5 10.9.9.9 4711 443\r\nhello");
    sim.settle();
    expect(sim.records).toMatchObject([{ closeReason: "downstream_reset", detail: "before it was accepted" }]);
    expect(sim.servers.length).toBe(0);
  });

  test("peek_timeout holds for the header and the ClientHello together", () => {
    const sim = withListener({ ...behind, routes: [routeSpec({ tls: "passthrough" })] });
    const client = sim.connect({ ip: "10.1.0.7" });
    sim.settle(700);
    client.send("PROXY TCP4 10.0.0.5 10.9.9.9 4711 443\r\n");
    sim.settle(400);
    expect(sim.reasons).toEqual(["peek_timeout"]);
  });

  test("no header: refused as soon as that is clear, or when peek_timeout has passed", () => {
    const sim = withListener(behind);
    sim.connect({ ip: "10.1.0.7" }).send("GET / HTTP/1.1\r\n\r\n");
    sim.settle();
    expect(sim.reasons).toEqual(["malformed_header"]);
    sim.connect({ ip: "10.1.0.7" }).send("PROXY TCP4");
    sim.settle(1100);
    expect(sim.records.at(-1)).toMatchObject({ closeReason: "peek_timeout", detail: "after 10 bytes" });
  });
});

describe("first bytes", () => {
  test("an opaque route dials at once, so that a server may speak first", () => {
    const sim = new SimWorker();
    const client = sim.connect();
    sim.server.send("220 ready\r\n");
    sim.settle();
    expect(client.text).toBe("220 ready\r\n");
  });

  test("plain text on a port that takes TLS only is not_tls", () => {
    const sim = withListener({ routes: [routeSpec({ tls: "passthrough" })] });
    sim.connect().send("GET / HTTP/1.1\r\n\r\n");
    sim.settle();
    expect(sim.reasons).toEqual(["not_tls"]);
  });

  test("a client that ends before it has said what it wants has left", () => {
    const sim = withListener({ routes: [routeSpec({ tls: "passthrough" })] });
    sim.connect({ client: new Probe((link) => link.farFinish()) });
    expect(sim.records).toMatchObject([{ closeReason: "downstream_left", detail: "after 0 bytes" }]);
  });
});

function withListener(spec: Parameters<typeof listenerSpec>[0]): SimWorker {
  return new SimWorker({ snapshot: { listeners: [listenerSpec(spec)] } });
}
