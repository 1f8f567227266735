// A source address has its own endpoint with `source_hash`, also when another one dies. Endpoints of this node's zone come before
// others, and one that is told to drain keeps its connections and is given no new ones. With `least_latency` an endpoint that is slow
// to take connections, or to answer, is left alone; clients that are slow to ask do not count against anybody.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Peer } from "../conformance/peers.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, startEndpoint, startUnansweringEndpoint } from "../support/tcp.ts";

const SOURCES = Array.from({ length: 36 }, (_, index) => `10.9.0.${index}`);

test("source_hash: every source has its endpoint, and only those of a dead one get another", async () => {
  await using first = await startEndpoint();
  await using second = await startEndpoint();
  const third = await startEndpoint();
  await using daemon = await startDaemon(`
listeners:
  - { name: tcp, address: 127.0.0.1:0, accept_proxy_protocol: true, trusted_sources: [127.0.0.0/8], backend: all }
backends:
  all: { balance: source_hash, endpoints: ["${first.address}", "${second.address}", "${third.address}"] }
`);
  const address = await daemon.address("tcp");
  let served = 0;
  const endpoints = async (): Promise<readonly unknown[]> => {
    for (const source of SOURCES) {
      const client = await connectTo(address);
      client.socket.end(`PROXY TCP4 ${source} 10.0.0.1 4000 80\r\nhello`);
      await eventually("an answer", () => client.ended && client.text === "hello");
    }
    served += SOURCES.length;
    return (await daemon.recorded(served)).slice(-SOURCES.length).map(({ endpoint }) => endpoint);
  };
  const before = await endpoints();
  expect(new Set(before).size).toBe(3);
  expect(await endpoints()).toEqual(before);
  await third[Symbol.asyncDispose]();
  const after = await endpoints();
  for (const [index, endpoint] of before.entries()) {
    if (endpoint === third.address) expect(after[index]).not.toBe(third.address);
    else expect(after[index]).toBe(endpoint);
  }
});

test("zones and drain: near endpoints first; one that drains keeps what it has", async () => {
  await using near = await startEndpoint();
  await using far = await startEndpoint();
  const config = (state: string): string => `
workers: 0
admin: { address: off }
access_log: { output: ./access.log }
zone: here
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: all }]
backends:
  all:
    endpoints:
      - { address: "${far.address}", zone: there }
      - { address: "${near.address}", zone: here, state: ${state} }
`;
  await using daemon = await startDaemon(config("active"));
  const address = await daemon.address("tcp");
  const stays = await connectTo(address);
  stays.socket.write("before ");
  await eventually("the first is served", () => stays.text === "before ");
  writeFileSync(join(daemon.directory, "bunnel.yaml"), config("drain"));
  daemon.child.signal("SIGHUP");
  await daemon.child.says("config reloaded");
  const later = await connectTo(address);
  later.socket.end("later");
  await eventually("the second is served", () => later.ended && later.text === "later");
  stays.socket.end("and after");
  await eventually("the first was kept", () => stays.ended && stays.text === "before and after");
  const records = await daemon.recorded(2);
  expect(records.map(({ endpoint }) => endpoint)).toEqual([far.address, near.address]);
  expect(records.every(({ close_reason }) => close_reason === "completed")).toBe(true);
});

test("least_latency: an endpoint that does not answer is tried once, and then left alone", async () => {
  await using unanswering = await startUnansweringEndpoint();
  await using good = await startEndpoint();
  await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: all }]
backends:
  all: { balance: least_latency, connect_timeout: 200ms, endpoints: ["${unanswering.address}", "${good.address}"] }
`);
  const address = await daemon.address("tcp");
  for (let count = 0; count < 20; count++) {
    const client = await connectTo(address);
    client.socket.end("hello");
    await eventually("an answer", () => client.ended && client.text === "hello");
  }
  const records = await daemon.recorded(20);
  expect(records.map(({ attempts }) => attempts)).toEqual([2, ...new Array<number>(19).fill(1)]);
});

/** An echo that thinks about what it is asked. */
function slowly(ms: number): (peer: Peer) => void {
  return ({ socket }) => {
    socket.on("data", (bytes) => setTimeout(() => socket.write(bytes), ms));
    socket.on("end", () => setTimeout(() => socket.end(), ms));
  };
}

test("least_latency: an endpoint that connects at once and answers slowly is tried, and then left alone", async () => {
  await using slow = await startEndpoint(slowly(150));
  await using quick = await startEndpoint();
  await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: all }]
backends:
  all: { balance: least_latency, endpoints: ["${slow.address}", "${quick.address}"] }
`);
  const address = await daemon.address("tcp");
  for (let count = 0; count < 40; count++) {
    const client = await connectTo(address);
    client.socket.end("hello");
    await eventually("an answer", () => client.ended && client.text === "hello");
  }
  const records = await daemon.recorded(40);
  const served = records.map(({ endpoint }) => endpoint);
  // The first byte of its first answer tells. Connecting alone is too much alike, and would give it about half.
  expect(served.filter((endpoint) => endpoint === slow.address)).toHaveLength(1);
});

test("least_latency: a client that thinks before it asks does not make its endpoint slow", async () => {
  await using first = await startEndpoint();
  await using second = await startEndpoint(slowly(60));
  await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: all }]
backends:
  all: { balance: least_latency, endpoints: ["${first.address}", "${second.address}"] }
`);
  const address = await daemon.address("tcp");
  for (let count = 0; count < 12; count++) {
    const client = await connectTo(address);
    // What the client does with its time is all that this wait is for: counted, it would make the first endpoint the slower one.
    if (count === 0) await Bun.sleep(300);
    client.socket.end("hello");
    await eventually("an answer", () => client.ended && client.text === "hello");
  }
  const records = await daemon.recorded(12);
  expect(records.filter(({ endpoint }) => endpoint === second.address)).toHaveLength(1);
});
