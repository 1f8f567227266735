// A successor that is killed at its very end may have put its admin socket in the place of ours: the daemon that goes on takes the place back.

import { test } from "bun:test";
import { unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { startSupervised } from "../support/supervised.ts";
import { startEndpoint } from "../support/tcp.ts";

const ABANDONED = "upgrade abandoned: the running program serves on";

const config = (address: string, more = ""): string => `
workers: 2
drain_timeout: 1m
listeners: [{ name: in, address: "127.0.0.1:0", backend: echo }]
backends: { echo: { endpoints: ["${address}"] } }
${more}
`;

test("the admin socket answers again when a successor has put its own in its place and then died", async () => {
  await using endpoint = await startEndpoint();
  await using running = await startSupervised(config(endpoint.address));
  // As the successor's rename does it.
  unlinkSync(running.adminPath);
  writeFileSync(join(running.daemon.directory, "bunnel.yaml"), "listeners: [");
  process.kill(running.pid, "SIGUSR2");
  await eventually("it was abandoned", () => running.told(ABANDONED).length === 1);
  await eventually("it answers", async () => (await running.status().catch(() => null))?.pid === running.pid);
});
