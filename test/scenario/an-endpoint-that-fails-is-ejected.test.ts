// An endpoint is killed under 300 new connections a second: no client sees an error, for another endpoint takes its connections, and within a second of its
// third failure it is given no more. Back again, it is found by one connection at a time, and then has its share.

import { expect, test } from "bun:test";
import net from "node:net";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { SteadyLoad, startEchoes } from "../support/steady-load.ts";
import { connectTo } from "../support/tcp.ts";

const BACK_MS = 15_000;

for (const workers of [0, 2]) {
  test(`killed under load, with workers: ${workers}`, async () => {
    await using killed = await startEchoes(1);
    await using others = await startEchoes(2);
    const address = killed.addresses[0] as string;
    await using daemon = await startDaemon(`
workers: ${workers}
access_log: { output: ./access.log }
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: all }]
backends:
  all:
    balance: round_robin
    outliers: { failures: 3, ejection: 2s }
    endpoints: [${[address, ...others.addresses].map((each) => `"${each}"`).join(", ")}]
`);
    const target = { address: await daemon.address("tcp") };
    await using load = new SteadyLoad({
      targets: [target],
      perSecond: 300,
      streams: 1,
      seconds: 30,
      maxPayloadBytes: 2000,
    });
    await load.ready();
    await eventually("the load was under way", () => daemon.records.length > 200);
    killed.child.signal("SIGKILL");
    await killed.child.exited;
    // Before that, its kernel may have taken a connection for it, and even the first bytes.
    const killedMs = Date.now();
    const isEjection = ({ msg }: Record<string, unknown>): boolean => String(msg).includes("is ejected");
    const line = await eventually(
      () => `it was ejected: ${daemon.child.story}`,
      () => daemon.log.find(isEjection),
    );
    expect(line).toMatchObject({ backend: "all", endpoint: address, seconds: 2 });
    expect(Number(line.time) - killedMs).toBeLessThan(1000);
    // Trials go on, and cost nobody anything.
    await eventually("it was tried again", () => daemon.log.filter(isEjection).length === 2, BACK_MS);
    const retried = daemon.records.filter(({ attempts = 1 }) => attempts > 1);
    // Those before the ejection may be a few more than three, for they are under way at once; then one for each trial.
    expect(retried.length).toBeLessThanOrEqual(20);

    const server = net.createServer((socket) => void socket.on("error", () => {}).pipe(socket));
    server.listen(Number(address.split(":")[1]), "127.0.0.1");
    try {
      await eventually("it was back", () => daemon.log.some(({ msg }) => String(msg).endsWith("is back")), BACK_MS);
      const before = daemon.records.length;
      await eventually("it had its share", () => {
        const served = daemon.records.slice(before).filter(({ endpoint }) => endpoint === address);
        return served.length > 20;
      });
      const summary = await load.stop();
      // The stream may have been at the endpoint that was killed; no exchange that began after was.
      const failures = load.failures.filter(({ of, startedMs }) => of === "exchange" && startedMs > killedMs);
      expect(failures).toEqual([]);
      expect(summary.attempted).toBeGreaterThan(300);
      const lost = daemon.records.filter(({ close_reason }) => close_reason === "connect_refused");
      expect(lost).toEqual([]);
    } finally {
      server.close();
    }
  }, 60_000);
}

test("an endpoint that resets everyone at once is ejected too", async () => {
  await using good = await startEchoes(1);
  const resetting = net.createServer((socket) => socket.resetAndDestroy());
  resetting.listen(0, "127.0.0.1");
  await eventually("it listened", () => resetting.listening);
  const address = `127.0.0.1:${(resetting.address() as net.AddressInfo).port}`;
  try {
    await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: all }]
backends:
  all: { outliers: { failures: 3, ejection: 60s }, endpoints: ["${address}", "${good.addresses[0]}"] }
`);
    const to = await daemon.address("tcp");
    for (let round = 0; round < 20; round++) {
      const client = await connectTo(to);
      client.socket.end("hello");
      await eventually("it was over", () => client.closed || client.ended);
      client.socket.destroy();
    }
    const records = await daemon.recorded(20);
    // A reset that comes before the relay has begun is a failed attempt to connect, and costs the client nothing.
    expect(records.filter(({ endpoint }) => endpoint === address).length).toBeLessThanOrEqual(3);
    expect(daemon.log.filter(({ msg }) => String(msg).includes("is ejected"))).toHaveLength(1);
    expect(records.slice(-10).every(({ close_reason }) => close_reason === "completed")).toBe(true);
  } finally {
    resetting.close();
  }
});
