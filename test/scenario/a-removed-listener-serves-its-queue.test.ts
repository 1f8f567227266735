// A listener at its limit is removed by a reload while clients wait in its queue. They had connected: they are served, in their order, as those before them leave. Who comes
// after the reload is refused.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Peer } from "../conformance/peers.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const WAITING = 8;

async function refused(to: string): Promise<boolean> {
  try {
    (await connectTo(to)).socket.destroy();
    return false;
  } catch (thrown) {
    return String(thrown).includes("ECONNREFUSED");
  }
}

async function reload(daemon: Daemon, text: string): Promise<void> {
  writeFileSync(join(daemon.directory, "bunnel.yaml"), `access_log: { output: ./access.log }\n${text}`);
  daemon.child.signal("SIGHUP");
  await daemon.child.says("config reloaded");
}

test.each([0, 2])(
  "workers: %d",
  async (workers) => {
    await using endpoint = await startEndpoint();
    const [stays, goes] = [await unusedPort(), await unusedPort("127.0.0.2")];
    const text = (more: string): string => `
workers: ${workers}
admin: { address: off }
drain_timeout: 1m
listeners:
  - { name: stays, address: "127.0.0.1:${stays}", backend: echo }
${more}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
    const full = `  - { name: goes, address: "127.0.0.2:${goes}", max_connections: 1, backend: echo }`;
    await using daemon = await startDaemon(text(full));
    const to = `127.0.0.2:${goes}`;
    const first = await connectTo(to);
    first.socket.write("first");
    await eventually("the first was served", () => first.text === "first");
    const waiting: Peer[] = [];
    for (let index = 0; index < WAITING; index++) {
      const client = await connectTo(to);
      client.socket.write(`waiting ${index}`);
      waiting.push(client);
    }
    await reload(daemon, text(""));
    expect(waiting.map(({ text: had, closed }) => [had, closed])).toEqual(Array(WAITING).fill(["", false]));
    first.socket.end();
    const served: string[] = [];
    for (let turn = 0; turn < WAITING; turn++) {
      const next = await eventually(
        () => `number ${turn} was served; ${served.join(", ")} were: ${daemon.child.story}`,
        () => waiting.find(({ text: had }) => had !== "" && !served.includes(had)),
      );
      // One at a time: the limit holds to the last.
      expect(waiting.filter(({ text: had, closed }) => had !== "" && !closed)).toHaveLength(1);
      served.push(next.text);
      next.socket.end();
      await eventually("it ended in order", () => next.closed);
      expect([next.ended, next.errorCode]).toEqual([true, ""]);
    }
    const inOrder = Array.from({ length: WAITING }, (_, index) => `waiting ${index}`);
    expect([...served].sort()).toEqual(inOrder);
    // Several processes accept from one queue, and each may hold the next one: then neighbours can change places, no more.
    if (workers === 0) expect(served).toEqual(inOrder);
    await eventually("newcomers are refused", () => refused(to));
    expect(await refused(`127.0.0.1:${stays}`)).toBe(false);
    const reasons = (await daemon.recorded(WAITING + 1)).map(({ close_reason }) => close_reason);
    expect(reasons.filter((reason) => reason !== "completed" && reason !== "downstream_reset")).toEqual([]);
  },
  20_000,
);
