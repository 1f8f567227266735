// A config with faults is refused as a whole before anything is opened: exit code 78, every fault named with its place in the file and the
// nearest name that would have been right, no port bound and no log file made. `check` says the same.

import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testPki } from "../support/certificates.ts";
import { type Outcome, run } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { ODD_LISTS, oddRevocationList } from "../support/odd-revocation-lists.ts";
import { missingPrograms } from "../support/programs.ts";
import { unusedPort } from "../support/servers.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("openssl");
const directory = mkdtempSync(join(tmpdir(), "bunnel-bad-config-"));
const path = join(directory, "bunnel.yaml");

afterAll(() => rmSync(directory, { recursive: true, force: true }));

function runWith(config: string, command: "run" | "check" = "run"): Promise<Outcome> {
  writeFileSync(path, config);
  return run(bunnel(command, "-c", path));
}

test("every fault is named with its place, and nothing is opened", async () => {
  const port = await unusedPort();
  const config = `access_log: { output: ./access.log }
listeners:
  - { name: good, address: "127.0.0.1:${port}", backend: web }
  - { name: bad, address: 127.0.0.1:70000, backend: web }
  - { name: worse, address: 127.0.0.1:0, backend: wbe, max_conections: 5 }
backends:
  web:
    balance: least_conections
    connect_timeout: 3
    endpoints: [127.0.0.1:1]
`;
  const { exitCode, stdout, stderr } = await runWith(config);
  expect([exitCode, stdout]).toEqual([78, ""]);
  const places = stderr
    .trim()
    .split("\n")
    .map((line) => line.replace(`${path}:`, ""));
  expect(places).toEqual([
    expect.stringMatching(/^4:27: listeners\[1\]\.address: /),
    expect.stringMatching(/^5:51: listeners\[2\]\.backend: .*did you mean "web"/),
    expect.stringMatching(/^5:56: listeners\[2\]\.max_conections: .*did you mean "max_connections"/),
    expect.stringMatching(/^8:14: backends\.web\.balance: .*did you mean "least_connections"/),
    expect.stringMatching(/^9:22: backends\.web\.connect_timeout: /),
  ]);
  expect(existsSync(join(directory, "access.log"))).toBe(false);
  expect(await runWith(config, "check")).toEqual({ exitCode, stdout, stderr });
});

test("so are certificates that cannot serve", async () => {
  writeFileSync(join(directory, "empty.pem"), "");
  const { exitCode, stderr } = await runWith(`listeners:
  - name: tls
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: empty.pem, key: absent.key }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: web }]
backends: { web: { endpoints: [127.0.0.1:1] } }
`);
  expect(exitCode).toBe(78);
  expect(stderr).toMatch(/:4:\d+: .*cert.*empty\.pem/);
  expect(stderr).toMatch(/:4:\d+: .*key.*absent\.key/);
});

test.skipIf(missing !== "")(`so are revocation lists that do not say all ${missing}`.trim(), async () => {
  const pki = await testPki();
  const lists = ODD_LISTS.map((odd) => oddRevocationList(pki, odd).path);
  const { exitCode, stderr } = await runWith(`listeners:
  - name: tls
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
      client_crl: [${lists.join(", ")}]
    routes: [{ name: all, tls: terminate, policy: any, backend: web }]
backends:
  web: { endpoints: [127.0.0.1:1], tls: { ca: [${pki.authority.certificatePath}], server_name: web, crl: [${lists[0]}] } }
`);
  expect(exitCode).toBe(78);
  for (const [index, { problem }] of ODD_LISTS.entries())
    expect(stderr).toContain(`client_crl[${index}]: ${lists[index]}: the revocation list ${problem}`);
  expect(stderr).toContain(`crl[0]: ${lists[0]}: the revocation list ${ODD_LISTS[0].problem}`);
});

test.each([
  ["no YAML at all", "listeners: [\n"],
  ["an empty file", ""],
  ["a list", "- 1\n- 2\n"],
  ["binary", "\0\x01\x02"],
])("so is %s", async (_, text) => {
  const { exitCode, stderr } = await runWith(text);
  expect(exitCode).toBe(78);
  expect(stderr).toStartWith(`${path}:`);
  expect(stderr).not.toContain("    at ");
});

test("a file that is not there, and a wrong command line", async () => {
  const absent = await run(bunnel("run", "-c", join(directory, "absent.yaml")));
  expect(absent.exitCode).toBe(78);
  expect(absent.stderr).toContain("absent.yaml");
  expect((await run(bunnel("run", "--confg", path))).exitCode).toBe(2);
  expect((await run(bunnel("walk"))).exitCode).toBe(2);
});

test("one address that cannot be had opens none of the others, exit 1", async () => {
  const port = await unusedPort();
  const taken = net.createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port: takenPort } = taken.address() as net.AddressInfo;
  const outcome = await runWith(`listeners:
  - { name: free, address: "127.0.0.1:${port}", backend: web }
  - { name: taken, address: "127.0.0.1:${takenPort}", backend: web }
backends: { web: { endpoints: [127.0.0.1:1] } }
`);
  await new Promise((resolve) => taken.close(resolve));
  expect(outcome.exitCode).toBe(1);
  expect(outcome.stderr).toContain(`127.0.0.1:${takenPort}: EADDRINUSE`);
  expect(outcome.stderr).not.toContain('"listening"');
});

test("a second daemon on the same port is told, and the first serves on", async () => {
  await using endpoint = await startEndpoint();
  await using first = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  const address = await first.address("tcp");
  const second = await runWith(`listeners: [{ name: tcp, address: "${address}", backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  expect([second.exitCode, second.stderr.includes("EADDRINUSE")]).toEqual([1, true]);
  const client = await connectTo(address);
  client.socket.end("still there?");
  expect((await first.record()).bytes_down).toBe(12);
});

test.each([
  [["check", "edge.yaml"], "(a config is named with -c FILE)"],
  [["help", "walk"], "error: unknown command 'walk'"],
])("%p: usage, with what was probably meant", async (args, hint) => {
  const { exitCode, stdout, stderr } = await run(bunnel(...args));
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr.split("\n")).toContain(hint);
});

test("`bench --help` is help, too", async () => {
  const { exitCode, stdout } = await run(bunnel("bench", "--help"));
  expect(exitCode).toBe(0);
  expect(stdout).toStartWith("Usage: bunnel bench");
});

test("an admin address that is taken is told as that, and a log without a directory once", async () => {
  using taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const rest =
    'listeners: [{ name: a, address: 127.0.0.1:0, backend: b }]\nbackends: { b: { endpoints: ["[::1]:1"] } }\n';
  const busy = await runWith(`workers: 0\nadmin: { address: "127.0.0.1:${taken.port}" }\n${rest}`);
  expect(busy).toMatchObject({
    exitCode: 1,
    stderr: `the admin API cannot listen on 127.0.0.1:${taken.port}: EADDRINUSE: another program listens there: stop it or choose another address\n`,
  });
  const log = join(directory, "absent/a.log");
  const logless = await runWith(`workers: 0\nadmin: { address: off }\naccess_log: { output: ${log} }\n${rest}`);
  expect(logless).toMatchObject({
    exitCode: 1,
    stderr: `cannot open the log file ${log}: ENOENT: its directory does not exist\n`,
  });
});
