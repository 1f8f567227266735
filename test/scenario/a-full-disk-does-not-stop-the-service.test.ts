// The disk under the access log, or under the daemon's own log, is full: connections are served as before, and it is said once that lines are lost.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Status } from "../../src/snapshot/status.ts";
import { Child } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, listensAt, startEndpoint } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

async function echoes(to: string): Promise<void> {
  const peer = await connectTo(to);
  peer.socket.write("through");
  await eventually(`${to} answers`, () => peer.text === "through");
  peer.socket.end();
  await eventually("it ended", () => peer.ended);
}

function config(listen: string, endpoint: string): string {
  return `listeners: [{ name: in, address: "${listen}", backend: web }]
backends: { web: { endpoints: ["${endpoint}"] } }
`;
}

for (const workers of [0, 2]) {
  test(`under the access log, with workers: ${workers}`, async () => {
    await using endpoint = await startEndpoint();
    const admin = join(temporaryDirectory("bunnel-full-"), "admin.sock");
    await using daemon = await startDaemon(
      `workers: ${workers}\nadmin: { address: "unix:${admin}" }\naccess_log: { output: /dev/full }\n${config("127.0.0.1:0", endpoint.address)}`,
    );
    const warnings = (): number =>
      daemon.log.filter(({ msg }) => String(msg).includes("lines are being dropped: the disk is full")).length;
    for (let count = 0; count < 20; count++) await echoes(await daemon.address("in"));
    await eventually("it was said", () => warnings() > 0);
    await echoes(await daemon.address("in"));
    // Each worker speaks for itself.
    expect(warnings()).toBeLessThanOrEqual(Math.max(workers, 1));
    await eventually("each line was counted", async () => {
      const { access_log } = (await (await fetch("http://localhost/api/v1/status", { unix: admin })).json()) as Status;
      return access_log.dropped_lines_total === 21;
    });
    expect(await daemon.stop()).toBe(0);
  });
}

test("under its own log", async () => {
  const directory = mkdtempSync(join(tmpdir(), "bunnel-full-"));
  await using endpoint = await startEndpoint();
  const socket = join(directory, "in.sock");
  const path = join(directory, "bunnel.yaml");
  writeFileSync(
    path,
    `workers: 0\nadmin: { address: off }\naccess_log: { output: off }\n${config(`unix:${socket}`, endpoint.address)}`,
  );
  await using daemon = new Child(["sh", "-c", 'exec "$@" 2>/dev/full', "sh", ...bunnel("run", "-c", path)]);
  await eventually("it listens", () => listensAt(socket));
  await echoes(`unix:${socket}`);
  daemon.signal("SIGHUP");
  await echoes(`unix:${socket}`);
  daemon.signal("SIGTERM");
  expect(await daemon.exited).toBe(0);
  rmSync(directory, { recursive: true });
});
