// A listener and an endpoint can each be a unix socket: bytes and ends go through as over TCP. The socket file is there while the daemon is, also
// when one that was killed has left its own behind; it is gone in the end, and a file that is no socket is never touched.

import { afterAll, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../support/child.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { missingPrograms } from "../support/programs.ts";
import { startNginx } from "../support/servers.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const directory = mkdtempSync(join(tmpdir(), "bunnel-unix-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const path = (name: string): string => join(directory, name);

test("from a unix socket to a unix socket, and each to TCP", async () => {
  await using local = await startEndpoint(undefined, { path: path("endpoint.sock") });
  await using remote = await startEndpoint();
  await using daemon = await startDaemon(`
listeners:
  - { name: unix-to-unix, address: "unix:${path("a.sock")}", backend: local }
  - { name: unix-to-tcp, address: "unix:${path("b.sock")}", backend: remote }
  - { name: tcp-to-unix, address: 127.0.0.1:0, backend: local }
backends:
  local: { endpoints: ["${local.address}"] }
  remote: { endpoints: ["${remote.address}"] }
`);
  for (const listener of ["unix-to-unix", "unix-to-tcp", "tcp-to-unix"]) {
    const client = await connectTo(await daemon.address(listener));
    client.socket.end(`through ${listener}`);
    await eventually(`${listener} answered`, () => client.ended);
    expect(client.text).toBe(`through ${listener}`);
  }
  const records = await daemon.recorded(3);
  expect(records.map(({ downstream, close_reason }) => [downstream.split(":")[0], close_reason])).toEqual([
    ["unix", "completed"],
    ["unix", "completed"],
    ["127.0.0.1", "completed"],
  ]);
});

test("the socket file comes and goes with the daemon", async () => {
  await using endpoint = await startEndpoint();
  const socket = path("daemon.sock");
  const config = `
listeners: [{ name: local, address: "unix:${socket}", backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
  {
    await using killed = await startDaemon(config);
    killed.child.signal("SIGKILL");
    await killed.child.exited;
  }
  expect(lstatSync(socket).isSocket()).toBe(true);
  {
    await using daemon = await startDaemon(config);
    const client = await connectTo(`unix:${socket}`);
    client.socket.end("hello");
    await eventually("it serves", () => client.ended && client.text === "hello");
    // One that is in use is not taken away from its owner.
    await expect(startDaemon(config)).rejects.toThrow("EADDRINUSE");
    expect(await daemon.stop()).toBe(0);
  }
  expect(existsSync(socket)).toBe(false);
  writeFileSync(socket, "precious");
  await expect(startDaemon(config)).rejects.toThrow("EADDRINUSE");
  expect(readFileSync(socket, "utf8")).toBe("precious");
});

const missing = missingPrograms("curl", "nginx");

test.skipIf(missing !== "")(`curl --unix-socket reaches nginx ${missing}`.trim(), async () => {
  await using nginx = await startNginx(`server { listen 127.0.0.1:PORT; location / { return 200 "served\\n"; } }`);
  await using _ = await startDaemon(`
listeners: [{ name: local, address: "unix:${path("http.sock")}", backend: web }]
backends: { web: { endpoints: ["${nginx.address}"] } }
`);
  const curl = ["curl", "--silent", "--max-time", "4", "--unix-socket", path("http.sock"), "http://localhost/"];
  expect((await run(curl)).stdout).toBe("served\n");
});
