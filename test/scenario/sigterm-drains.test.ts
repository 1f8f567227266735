// SIGTERM and SIGINT stop the accepting at once and let connections finish: exit code 0 once the last one has, 1 when `drain_timeout` had to
// cut some of them, which each have their record. Silent ones are ended before that, a few at a time. A second signal does not wait any longer.

import { describe, expect, test } from "bun:test";
import type { Peer } from "../conformance/peers.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const SILENT = 16;

async function daemonOn(endpoint: string, drainTimeout: string): Promise<Daemon> {
  return await startDaemon(`
drain_timeout: ${drainTimeout}
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: echo }]
backends: { echo: { endpoints: ["${endpoint}"] } }
`);
}

/** A client whose connection has gone all the way. */
async function talking(address: string): Promise<Peer> {
  const client = await connectTo(address);
  client.socket.write("a");
  await eventually("it was answered", () => client.text === "a");
  return client;
}

async function refusesNewcomers(address: string): Promise<boolean> {
  try {
    (await connectTo(address)).socket.destroy();
    return false;
  } catch (thrown) {
    return String(thrown).includes("ECONNREFUSED");
  }
}

describe.each(["SIGTERM", "SIGINT"] as const)("%s", (signal) => {
  test("lets connections finish: exit 0", async () => {
    await using endpoint = await startEndpoint();
    await using daemon = await daemonOn(endpoint.address, "1h");
    const address = await daemon.address("tcp");
    const client = await talking(address);
    daemon.child.signal(signal);
    await daemon.child.says("draining");
    await eventually("newcomers were refused", () => refusesNewcomers(address));
    client.socket.write("b");
    await eventually("the old connection goes on", () => client.text === "ab");
    expect(daemon.child.hasExited).toBe(false);
    client.socket.end("c");
    await eventually("it ended in order", () => client.ended);
    expect(client.text).toBe("abc");
    expect(await daemon.exitCode()).toBe(0);
    // A newcomer may have slipped in between the line and the closing.
    const records = daemon.records.filter(({ bytes_up }) => bytes_up > 0);
    expect(records.map(({ bytes_up, close_reason }) => [bytes_up, close_reason])).toEqual([[3, "completed"]]);
  });

  test("cuts what remains after drain_timeout: exit 1, a record each", async () => {
    await using endpoint = await startEndpoint();
    await using daemon = await daemonOn(endpoint.address, "1s");
    const address = await daemon.address("tcp");
    const clients = [await talking(address), await talking(address)];
    expect(await daemon.stop(signal)).toBe(1);
    await eventually("both were cut", () => clients.every(({ closed }) => closed));
    expect(clients.map(({ errorCode }) => errorCode)).toEqual(["ECONNRESET", "ECONNRESET"]);
    expect(daemon.records.map(({ close_reason }) => close_reason)).toEqual(["drain_timeout", "drain_timeout"]);
  });

  test("twice: ends at once, exit 1", async () => {
    await using endpoint = await startEndpoint();
    await using daemon = await daemonOn(endpoint.address, "1h");
    const client = await talking(await daemon.address("tcp"));
    daemon.child.signal(signal);
    await daemon.child.says("draining");
    expect(await daemon.stop(signal)).toBe(1);
    await eventually("it was cut", () => client.closed);
    expect(daemon.records.map(({ close_reason }) => close_reason)).toEqual(["drain_timeout"]);
  });
});

test("silent connections go little by little before the deadline, those in use finish: exit 0", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await daemonOn(endpoint.address, "8s");
  const address = await daemon.address("tcp");
  const silent = await Promise.all(Array.from({ length: SILENT }, () => talking(address)));
  const busy = await talking(address);
  daemon.child.signal("SIGTERM");
  const isOver = (): boolean => silent.every(({ closed }) => closed);
  const ends: number[] = [];
  for (const { socket } of silent) socket.once("close", () => ends.push(performance.now()));
  let sent = 1;
  await eventually(
    () => `all silent ones were ended; ${ends.length} are`,
    () => {
      if (busy.text.length === sent) {
        busy.socket.write("b");
        sent++;
      }
      return isOver();
    },
    9000,
  );
  expect(silent.map(({ errorCode }) => errorCode)).toEqual(Array(SILENT).fill("ECONNRESET"));
  // From 5 s, as none had been silent for longer before, to 7.6 s; and never many in a tenth of that.
  expect((ends.at(-1) as number) - (ends[0] as number)).toBeGreaterThan(1500);
  for (const from of ends) expect(ends.filter((at) => at >= from && at < from + 250).length).toBeLessThanOrEqual(5);
  busy.socket.end();
  await eventually("the one in use had all of its answers", () => busy.ended && busy.text.length === sent);
  expect(await daemon.exitCode()).toBe(0);
  const reasons = daemon.records.map(({ close_reason }) => close_reason);
  expect(reasons).toEqual([...Array(SILENT).fill("drain_idle"), "completed"]);
}, 15_000);

test("with nothing to drain it ends at once, exit 0", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await daemonOn(endpoint.address, "1h");
  expect(await daemon.stop()).toBe(0);
});
