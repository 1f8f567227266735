// An operator asks a running daemon with two workers what it is doing, has it reload, is told what is wrong with a config, and drains it: by the
// commands of the program and by HTTP.

import { expect, test } from "bun:test";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import type { Status } from "../../src/snapshot/status.ts";
import { Child } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { temporaryDirectory } from "../support/temporary.ts";

async function command(...args: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  await using child = new Child(bunnel(...args));
  const code = await child.exited;
  return { code, out: child.stdout, err: child.stderr };
}

test("status, reload and drain, over a unix socket", async () => {
  const socket = join(temporaryDirectory("bunnel-admin-"), "admin.sock");
  await using daemon = await startDaemon(`
workers: 2
admin: { address: "unix:${socket}" }
listeners: [{ name: edge, address: 127.0.0.1:0, backend: b }]
backends: { b: { endpoints: [127.0.0.1:9] } }
`);
  const config = join(daemon.directory, "bunnel.yaml");
  const http = async (path: string): Promise<Response> => await fetch(`http://bunnel${path}`, { unix: socket });

  const shown = await command("status", "-c", config);
  expect([shown.code, shown.err]).toEqual([0, ""]);
  expect(shown.out).toContain("serving, 2 workers by generation 1\n");
  expect(shown.out).toContain(await daemon.address("edge"));
  expect((await http("/readyz")).status).toBe(200);
  expect(await (await http("/metrics")).text()).toContain("\nbunnel_config_generation 1\n");

  expect((await command("reload", "-c", config)).code).toBe(0);
  const good = readFileSync(config, "utf8");
  appendFileSync(config, "log: { level: debug }\n");
  const warned = await command("reload", "-c", config);
  expect([warned.code, warned.err]).toEqual([0, "warning: `log` changed: that takes a restart\n"]);
  appendFileSync(config, "listenrs: []\n");
  const refused = await command("reload", "-c", config);
  expect(refused.code).toBe(1);
  expect(refused.err).toMatch(/bunnel\.yaml:\d+:1: listenrs: .*did you mean "listeners"/);

  // Whoever leaves in the middle of a request is no defect.
  const leaver = createConnection(socket);
  leaver.write("POST /api/v1/drain HTTP/1.1\r\nHost: bunnel\r\nContent-Length: 10\r\n\r\n");
  await eventually("the request had come", () => leaver.bytesWritten > 0 && !leaver.connecting);
  expect((await http("/healthz")).status).toBe(200);
  leaver.destroy();

  const status = JSON.parse((await command("status", "--json", "-c", config)).out) as Status;
  expect(status.pid).toBe(daemon.pid);
  expect(status.workers.length).toBe(2);
  expect(status.config.last_reload_ok).toBe(false);
  expect(status.config.last_reload_problems.join()).toContain("listenrs");
  expect(await (await http("/metrics")).text()).toContain("\nbunnel_config_last_reload_success 0\n");
  expect((await http("/readyz")).status).toBe(200);
  writeFileSync(config, good);

  expect((await command("drain", "-c", config)).code).toBe(0);
  expect(await daemon.exitCode()).toBe(0);
  const late = await command("status", "-c", config);
  expect(late.code).toBe(1);
  expect(daemon.log.filter(({ msg }) => String(msg).includes("defect"))).toEqual([]);
  expect(late.err).toContain(`unix:${socket} does not answer: ENOENT: no daemon runs there`);
}, 30_000);
