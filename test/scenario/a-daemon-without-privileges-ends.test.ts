// Turning newcomers away must not depend on privileges: there are hosts on which a socket filter takes CAP_NET_ADMIN, and a daemon that could not attach one neither ended on
// SIGTERM nor, as a worker without a supervisor, ever.

import { expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { endNow, isAlive, workersOf } from "../support/worker-processes.ts";

const isRoot = process.getuid?.() === 0;

const config = (address: string, more: string): string => `
drain_timeout: 2s
listeners: [{ name: in, address: "127.0.0.1:0", backend: echo }]
backends: { echo: { endpoints: ["${address}"] } }
${more}
`;

for (const workers of [0, 2]) {
  test.skipIf(!isRoot)(`workers: ${workers}: run by a plain user, SIGTERM ends it in order`, async () => {
    await using endpoint = await startEndpoint();
    const directory = temporaryDirectory("bunnel-plain-");
    chmodSync(directory, 0o755);
    const path = join(directory, "bunnel.yaml");
    writeFileSync(
      path,
      config(endpoint.address, `workers: ${workers}\nadmin: { address: off }\naccess_log: { output: off }`),
    );
    await using child = new Child([
      "setpriv",
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      ...bunnel("run", "-c", path),
    ]);
    await eventually(
      () => `it listens: ${child.story}`,
      () => child.stderr.includes('"listening"'),
    );
    child.signal("SIGTERM");
    await eventually(
      () => `it ended: ${child.story}`,
      () => child.hasExited,
    );
    expect(await child.exited).toBe(0);
    expect(child.stderr).not.toContain("defect");
  });
}

test.skipIf(!isRoot)("workers of another user that lose their supervisor turn newcomers away, and end", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(config(endpoint.address, "workers: 2\nuser: nobody"));
  const to = await daemon.address("in");
  const workers = workersOf(daemon.pid);
  try {
    (await connectTo(to)).socket.end();
    daemon.child.signal("SIGKILL");
    await eventually(
      () => `they ended: ${daemon.child.story}`,
      () => workers.every((pid) => !isAlive(pid)),
    );
    expect(daemon.child.stderr).not.toContain("defect");
  } finally {
    for (const pid of workers) endNow(pid);
  }
});
