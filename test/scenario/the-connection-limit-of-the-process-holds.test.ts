// With `max_connections: 0` the limit follows from the descriptors that the process may open, with room to spare: a flood of clients neither
// ends the daemon nor spins it at EMFILE. Those beyond the limit wait, all are served in the end, and every descriptor comes back.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Peer } from "../conformance/peers.ts";
import { run } from "../support/child.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const DESCRIPTORS = 400;
/** Two for each connection, after 256 that are kept for everything else. */
const EXPECTED_LIMIT = (DESCRIPTORS - 256) / 2;
const CLIENTS = 300;

const missing = Bun.which("prlimit") === null ? "prlimit (package util-linux)" : "";

/** Clock ticks of CPU that the process has used. */
function cpuTicks({ pid }: Daemon): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

test.skipIf(missing !== "")(
  `${CLIENTS} clients at ${DESCRIPTORS} descriptors ${missing}`.trim(),
  async () => {
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(
      `
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`,
      { under: ["prlimit", `--nofile=${DESCRIPTORS}`, "--"] },
    );
    const address = await daemon.address("tcp");
    const atFirst = daemon.descriptors;
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => connectTo(address)));
    for (const [index, { socket }] of clients.entries()) socket.write(`client ${index}`);
    const served = (): Peer[] => clients.filter(({ text }) => text !== "");
    await eventually("as many were served as the limit allows", () => served().length === EXPECTED_LIMIT);

    // Those that wait cost nothing: a loop that spins would use up whole seconds here.
    const ticksBefore = cpuTicks(daemon);
    await Bun.sleep(300);
    expect(cpuTicks(daemon) - ticksBefore).toBeLessThan(10);
    expect(served().length).toBe(EXPECTED_LIMIT);
    expect(daemon.descriptors).toBeLessThan(DESCRIPTORS);

    const leaving = new Set<Peer>();
    await eventually("everyone was served", () => {
      for (const client of served()) if (!leaving.has(client)) leaving.add(client) && client.socket.end();
      return clients.every(({ ended }) => ended);
    });
    expect(clients.map(({ text }) => text)).toEqual(clients.map((_, index) => `client ${index}`));
    await daemon.recorded(CLIENTS);
    await eventually("every descriptor came back", () => daemon.descriptors <= atFirst);
  },
  15_000,
);

test.skipIf(missing !== "").each([3, 0])(
  `%d descriptors that are left by others cost newcomers their time, and nobody his connection ${missing}`.trim(),
  async (left) => {
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
    const address = await daemon.address("tcp");
    const old = await Promise.all(Array.from({ length: 20 }, () => connectTo(address)));
    for (const { socket } of old) socket.write("old");
    await eventually("they were served", () => old.every(({ text }) => text === "old"));

    // Behind the daemon's back: by its own count there is room for thousands.
    const limit = daemon.descriptors + left;
    await run(["prlimit", `--pid=${daemon.pid}`, `--nofile=${limit}:`]);
    const young = await Promise.all(Array.from({ length: 30 }, () => connectTo(address)));
    for (const [index, { socket }] of young.entries()) socket.write(`young ${index}`);
    if (left > 0) {
      const record = await daemon.record(({ close_reason }) => close_reason === "limit_reached");
      expect([record.close_side, record.termination]).toEqual(["proxy", "RC"]);
      expect(record.detail).toMatch(/^EMFILE: 127\.0\.0\.1:\d+ could not be dialled$/);
    }

    // It is seen within half a second; from then on a loop that spins would use up all of the time.
    await Bun.sleep(600);
    const ticksBefore = cpuTicks(daemon);
    await Bun.sleep(1000);
    expect(cpuTicks(daemon) - ticksBefore).toBeLessThan(15);
    for (const { socket } of old) socket.write(" still");
    await eventually("nobody lost his connection", () => old.every(({ text }) => text === "old still"));

    for (const { socket } of old) socket.end();
    await eventually(
      "those who waited were served",
      () => {
        for (const { text, ended, socket } of young) if (text !== "" && !ended) socket.end();
        return young.every(({ ended, closed }) => ended || closed);
      },
      10_000,
    );
    const served = young.filter(({ text }) => text !== "").length;
    expect(served).toBeGreaterThanOrEqual(20);
    expect(daemon.child.stderr).not.toContain("defect");
  },
  20_000,
);
