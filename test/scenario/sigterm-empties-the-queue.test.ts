// A burst of clients at the very moment of SIGTERM: whoever's connect succeeded is served, and whoever comes too late is refused. Nobody who was connected is reset. The signal
// comes at another moment of the burst each time; and in half of the rounds a limit keeps most of them in the queue then.

import { expect, test } from "bun:test";
import type { Peer } from "../conformance/peers.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { startEchoes } from "../support/steady-load.ts";
import { connectTo } from "../support/tcp.ts";

const BURST = 200;
const ROUNDS = 10;
const LIMIT = 10;

type Fate = "served" | "refused" | string;

/** Connects, sends, half-closes, and reads to the end. */
async function fateOf(to: string, index: number): Promise<Fate> {
  let client: Peer;
  try {
    client = await connectTo(to);
  } catch (thrown) {
    return String(thrown).includes("ECONNREFUSED") ? "refused" : String(thrown);
  }
  const message = `message ${index}`;
  client.socket.end(message);
  await eventually(`client ${index} came to an end`, () => client.closed, 9000);
  return client.text === message && client.errorCode === ""
    ? "served"
    : `"${client.text}" and then ${client.errorCode || "FIN"}`;
}

async function burst(daemon: Daemon, round: number): Promise<Record<Fate, number>> {
  const to = await daemon.address("in");
  const fates: Promise<Fate>[] = [];
  for (let index = 0; index < BURST; index++) {
    if (index === (round * BURST) / ROUNDS) daemon.child.signal("SIGTERM");
    fates.push(fateOf(to, index));
    // Half of the rounds spread the burst over turns of the loop, so that the daemon is in the midst of it.
    if (round % 2 === 1 && index % 10 === 9) await new Promise(setImmediate);
  }
  const counts: Record<Fate, number> = {};
  for (const fate of await Promise.all(fates)) counts[fate] = (counts[fate] ?? 0) + 1;
  return counts;
}

test.each([0, 2])(
  "workers: %d",
  async (workers) => {
    await using echoes = await startEchoes(1);
    let servedInAll = 0;
    for (let round = 0; round < ROUNDS; round++) {
      await using daemon = await startDaemon(`
workers: ${workers}
drain_timeout: 10s
listeners: [{ name: in, address: "127.0.0.1:0", max_connections: ${round % 4 < 2 ? 0 : LIMIT}, backend: echo }]
backends: { echo: { endpoints: ["${echoes.addresses[0]}"] } }
`);
      const { served = 0, refused = 0, ...wrong } = await burst(daemon, round);
      expect({ round, wrong }).toEqual({ round, wrong: {} });
      expect(served + refused).toBe(BURST);
      expect(await daemon.exitCode()).toBe(0);
      expect(daemon.records.filter(({ close_reason }) => close_reason !== "completed")).toEqual([]);
      expect(daemon.records).toHaveLength(served);
      servedInAll += served;
    }
    expect(servedInAll).toBeGreaterThan(0);
  },
  30_000,
);
