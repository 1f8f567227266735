// What cannot be served is refused as a whole, whoever finds out: the config's reader, the control plane, the kernel, or a single worker. All workers go on as before, and the reason is in
// the log, in the answer of `bunnel reload` and in the status.

import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { type Supervised, startSupervised } from "../support/supervised.ts";
import { connectTo, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { descriptorsOf } from "../support/worker-processes.ts";

/** Refused for that reason, everywhere; and everybody goes by what was served before. */
async function isRefused(running: Supervised, config: string, reason: RegExp): Promise<void> {
  const before = await running.status();
  const { workers } = running;
  const { exitCode, stderr } = await running.reload(config);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(reason);
  const after = await running.status();
  expect(after.generation).toBe(before.generation);
  expect(after.workers.map(({ pid, state, generation }) => [pid, state, generation])).toEqual(
    workers.map((pid) => [pid, "serving", before.generation]),
  );
  expect(after.config.last_reload_ok).toBe(false);
  expect(after.config.last_reload_problems.join("\n")).toMatch(reason);
  const [line] = running.told("reload refused: the old config is still served").slice(-1);
  expect(String(line?.problem)).toMatch(reason);
}

test("a config that no longer parses, a port that another program has, a certificate that no longer loads", async () => {
  await using endpoint = await startEndpoint();
  const directory = temporaryDirectory("bunnel-refused-");
  const pki = await testPki();
  const cert = join(directory, "cert.pem");
  writeFileSync(cert, readFileSync(pki.server.certificatePath));
  const to = `127.0.0.1:${await unusedPort()}`;
  const secure = `127.0.0.2:${await unusedPort("127.0.0.2")}`;
  const config = (more = ""): string => `
workers: 2
drain_timeout: 10s
listeners:
  - { name: in, address: "${to}", backend: echo }
  - name: secure
    address: "${secure}"
    tls: { certificates: [{ cert: "${cert}", key: "${pki.server.keyPath}" }], client_ca: ["${pki.authority.certificatePath}"] }
    routes: [{ name: all, tls: terminate, policy: ours, backend: echo }]
${more}
policies: { ours: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/**"] }] } }
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
  await using running = await startSupervised(config());
  const peer = await talking(to);
  await isRefused(running, `${config()}\nlisteners: {{{`, /bunnel\.yaml:\d+:\d+: /);
  await using taken = await startEndpoint();
  const [free, freePort] = ["127.0.0.3", await unusedPort("127.0.0.3")];
  const two = `  - { name: free, address: "${free}:${freePort}", backend: echo }\n  - { name: taken, address: "${taken.address}", backend: echo }`;
  await isRefused(running, config(two), /cannot listen on .*EADDRINUSE: another program listens there/);
  // What could be had was given back.
  await expect(connectTo(`${free}:${freePort}`)).rejects.toThrow("ECONNREFUSED");
  writeFileSync(cert, "no certificate at all");
  await isRefused(running, config('  - { name: other, address: "127.0.0.3:0", backend: echo }'), /cert\.pem/);
  writeFileSync(cert, readFileSync(pki.server.certificatePath));
  peer.socket.write("b");
  await eventually("who was there before goes on", () => peer.text === "ab");
  peer.socket.end();
  (await talking(to)).socket.end();
  const { exitCode } = await running.reload(
    config(`  - { name: free, address: "${free}:${freePort}", backend: echo }`),
  );
  expect(exitCode).toBe(0);
  (await talking(`${free}:${freePort}`)).socket.end();
  expect((await running.untilServing(2)).config.last_reload_problems).toEqual([]);
  expect(running.told("a worker has ended")).toEqual([]);
  expect(await running.daemon.stop()).toBe(0);
  await running.untilAllGone();
}, 20_000);

test("fifty reloads that add and remove a listener leave no descriptor behind, in nobody", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  const extra = await unusedPort("127.0.0.2");
  const directory = temporaryDirectory("bunnel-refused-");
  const blocked = net.createServer();
  await new Promise<void>((resolve) => blocked.listen(0, "127.0.0.1", resolve));
  const { port } = blocked.address() as net.AddressInfo;
  const config = (more = ""): string => `
workers: 2
drain_timeout: 1s
listeners:
  - { name: in, address: "${to}", backend: echo }
${more}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
  // Others each time: one that was just removed is waited for.
  const both = (round: number): string => `
  - { name: extra, address: "127.0.0.${2 + (round % 9)}:${extra}", backend: echo }
  - { name: file, address: "unix:${directory}/${round % 9}.sock", backend: echo }`;
  await using running = await startSupervised(config());
  const once = async (round: number): Promise<void> => {
    const [added, refused, removed] = [
      await reload(running, config(both(round))),
      // Opened, and given back.
      round % 5 === 0
        ? await reload(running, config(`${both(round)}\n  - { name: no, address: "127.0.0.1:${port}", backend: echo }`))
        : null,
      await reload(running, config()),
    ];
    expect([added, removed]).toEqual([200, 200]);
    if (refused !== null) expect(refused).toBe(409);
  };
  // Lazy loading is no leak.
  for (let round = 0; round < 3; round++) await once(round);
  const before = await settled(running);
  for (let round = 0; round < 25; round++) await once(round);
  await eventually(
    () => `descriptors came down from ${before} again, and not ${descriptors(running)}`,
    () => descriptors(running).every((count, index) => count <= (before[index] as number)),
    9000,
  );
  blocked.close();
  expect(await running.daemon.stop()).toBe(0);
  await running.untilAllGone();
}, 40_000);

/** By the API itself, as a command takes longer than what it asks for. */
async function reload(running: Supervised, config: string): Promise<number> {
  running.write(config);
  return (await fetch("http://bunnel/api/v1/reload", { unix: running.adminPath, method: "POST" })).status;
}

function descriptors(running: Supervised): readonly number[] {
  return [running.pid, ...running.workers].map((pid) => descriptorsOf(pid));
}

/** Once those of removed listeners are closed. */
async function settled(running: Supervised): Promise<readonly number[]> {
  let last = "";
  let same = 0;
  await eventually(
    "they stayed the same for a second",
    async () => {
      const now = descriptors(running).join();
      same = now === last ? same + 1 : 0;
      last = now;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return same >= 10;
    },
    9000,
  );
  return descriptors(running);
}
