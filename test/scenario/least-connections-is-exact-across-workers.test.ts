// Two workers share one count of each endpoint, so that least_connections is as exact as in one process: after any sequence of comings and goings, however they fell to
// the workers, no endpoint of equal weight has two connections more than another. Limits hold across the workers in the same way. All is counted at the endpoints.

import { describe, expect, test } from "bun:test";
import type { Peer } from "../conformance/peers.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { type Echoes, startEchoes } from "../support/steady-load.ts";
import { connectTo } from "../support/tcp.ts";
import { clientPortsHeldBy, workersOf } from "../support/worker-processes.ts";

const ENDPOINTS = 10;

interface Options {
  readonly top?: string;
  readonly perEndpoint?: number;
}

function start(echoes: Echoes, { top = "", perEndpoint = 0 }: Options = {}): Promise<Daemon> {
  const entries = echoes.addresses.map((address) => `{ address: "${address}", max_connections: ${perEndpoint} }`);
  return startDaemon(`
workers: 2
${top}
listeners: [{ name: in, address: "127.0.0.1:0", backend: echo }]
backends: { echo: { endpoints: [${entries.join(", ")}] } }
`);
}

async function arrive(to: string): Promise<Peer> {
  const peer = await connectTo(to);
  peer.socket.write("x");
  return peer;
}

/** So many at the same moment, each with an answer. */
async function answered(to: string, count: number): Promise<Peer[]> {
  const peers = await Promise.all(Array.from({ length: count }, () => arrive(to)));
  await eventually("all were answered", () => peers.every(({ text }) => text === "x"));
  return peers;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function spread(numbers: readonly number[]): number {
  return Math.max(...numbers) - Math.min(...numbers);
}

async function untilOpen(echoes: Echoes, count: number): Promise<readonly number[]> {
  return await eventually(
    () => `${count} connections were open at the endpoints`,
    async () => {
      const open = await echoes.open();
      return sum(open) === count ? open : null;
    },
  );
}

test("least_connections: after crowds that come at once, and after random goings, the spread is one at most", async () => {
  await using echoes = await startEchoes(ENDPOINTS);
  await using daemon = await start(echoes);
  const to = await daemon.address("in");
  const present: Peer[] = [];
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = seeded(seed);
  let gone = 0;
  for (let round = 0; round < 12; round++) {
    // Goings leave holes anywhere; as many or more who come then must fill the holes first.
    const goings = Math.floor(random() * present.length);
    for (let index = 0; index < goings; index++) {
      const [leaver] = present.splice(Math.floor(random() * present.length), 1);
      leaver?.socket.end();
    }
    const open = await untilOpen(echoes, present.length);
    gone += goings;
    // A record is written once its connection has been given back.
    await daemon.recorded(gone);
    const holes = sum(open.map((count) => Math.max(...open) - count));
    present.push(...(await answered(to, holes + Math.floor(random() * 40))));
    const after = await untilOpen(echoes, present.length);
    expect({ seed, round, after, spread: Math.min(1, spread(after)) }).toEqual({
      seed,
      round,
      after,
      spread: spread(after),
    });
  }
  const port = await daemon.port("in");
  const shares = workersOf(daemon.pid).map((worker) => clientPortsHeldBy(worker, port).length);
  expect(shares).toHaveLength(2);
  expect(Math.min(...shares)).toBeGreaterThan(0);
}, 20_000);

describe("limits are never exceeded, however many come at once", () => {
  test("max_connections of each endpoint", async () => {
    await using echoes = await startEchoes(ENDPOINTS);
    await using daemon = await start(echoes, { perEndpoint: 3 });
    const to = await daemon.address("in");
    const crowd = await Promise.all(Array.from({ length: 80 }, () => arrive(to)));
    await eventually("the endpoints were full", () => crowd.filter(({ text }) => text === "x").length === 30);
    // The others have nowhere to go, and are told so.
    await eventually("the others were reset", () => crowd.filter(({ closed }) => closed).length === 50);
    const { endpoints, peakOfAll } = await echoes.counts();
    expect(endpoints.map(({ peak }) => peak)).toEqual(Array(ENDPOINTS).fill(3));
    expect(peakOfAll).toBe(30);
  }, 20_000);

  test("max_connections of the whole program: the others wait, and follow those who leave", async () => {
    await using echoes = await startEchoes(ENDPOINTS);
    await using daemon = await start(echoes, { top: "max_connections: 25" });
    const to = await daemon.address("in");
    const crowd = await Promise.all(Array.from({ length: 80 }, () => arrive(to)));
    const served = (): Peer[] => crowd.filter(({ text, socket }) => text === "x" && !socket.writableEnded);
    let left = 80;
    while (left > 0) {
      await eventually("the program was full", () => served().length === Math.min(25, left));
      for (const { socket } of served().slice(0, 10)) {
        socket.end();
        left--;
      }
    }
    await eventually("all have ended in order", () => crowd.every(({ ended, errorCode }) => ended && errorCode === ""));
    const { endpoints, peakOfAll } = await echoes.counts();
    expect(peakOfAll).toBe(25);
    expect(sum(endpoints.map(({ total }) => total))).toBe(80);
  }, 20_000);
});

/** A small generator of numbers from 0 to 1 (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
