// Under systemd, or whatever speaks as it does: sockets that were opened before the daemon serve as listeners and outlive it, and the service
// manager is told when it serves, reloads and ends.

import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child, run } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { NoticeReceiver, passing } from "../support/service-manager.ts";
import { connectTo, listensAt, startEndpoint } from "../support/tcp.ts";

const directory = mkdtempSync(join(tmpdir(), "bunnel-systemd-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function config(listeners: readonly string[], endpoint: string, workers = 0): string {
  return `workers: ${workers}
listeners:
${listeners.map((name) => `  - { name: ${name}, address: "systemd:${name}", allow_plaintext: true, backend: web }`).join("\n")}
backends: { web: { endpoints: ["${endpoint}"] } }
`;
}

async function echoes(to: string): Promise<void> {
  const peer = await connectTo(to);
  peer.socket.write("through");
  await eventually(`${to} answers`, () => peer.text === "through");
  peer.socket.destroy();
}

for (const workers of [0, 2]) {
  test(`with workers: ${workers} it serves what it was passed, tells so, and leaves the socket file`, async () => {
    const path = join(directory, `local-${workers}.sock`);
    await using receiver = await new NoticeReceiver(join(directory, `notify-${workers}.sock`)).bound();
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(config(["tcp", "local"], endpoint.address, workers), {
      env: { NOTIFY_SOCKET: receiver.path, WATCHDOG_USEC: "2000000" },
      under: passing(
        [
          { kind: "stream", name: "tcp", host: "127.0.0.1" },
          { kind: "stream", name: "local", path },
        ],
        [],
      ),
    });
    expect(await daemon.address("tcp")).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(await daemon.address("local")).toBe(`unix:${path}`);
    await echoes(await daemon.address("tcp"));
    await echoes(`unix:${path}`);
    const told = (text: string): boolean => receiver.notices.some((notice) => notice.includes(text));
    await eventually("it said that it serves", () => told(`READY=1\nMAINPID=${daemon.pid}\nSTATUS=generation 1`));
    await eventually("it gave a sign of life", () => told("WATCHDOG=1"));
    const children = readFileSync(`/proc/${daemon.pid}/task/${daemon.pid}/children`, "utf8").split(" ").slice(0, -1);
    expect(children).toHaveLength(workers);
    for (const child of children)
      expect(readFileSync(`/proc/${child}/environ`, "utf8")).not.toMatch(/(NOTIFY|WATCHDOG|LISTEN)_/);
    // One is taken out of the config, and put back: what the service manager passed is not lost.
    const file = join(daemon.directory, "bunnel.yaml");
    const whole = readFileSync(file, "utf8");
    writeFileSync(file, whole.replace(/^.*systemd:tcp.*\n/m, ""));
    daemon.child.signal("SIGHUP");
    await eventually("it said that it reloads", () => told("RELOADING=1\nMONOTONIC_USEC="));
    await eventually("it serves on", () => told("STATUS=generation 2"));
    writeFileSync(file, whole);
    daemon.child.signal("SIGHUP");
    await eventually("it serves both again", () => told("STATUS=generation 3"));
    await echoes(await daemon.address("tcp"));
    expect(await daemon.stop()).toBe(0);
    expect(told("STOPPING=1\nSTATUS=draining, generation 3")).toBe(true);
    expect(existsSync(path)).toBe(true);
  });
}

test("after an upgrade the service manager is told of the successor, and by it alone", async () => {
  await using receiver = await new NoticeReceiver(join(directory, "notify-upgrade.sock")).bound();
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(config(["web"], endpoint.address, 1), {
    env: { NOTIFY_SOCKET: receiver.path, WATCHDOG_USEC: "1000000" },
    under: passing([{ kind: "stream", name: "web", host: "127.0.0.1" }], []),
  });
  const address = await daemon.address("web");
  daemon.child.signal("SIGUSR2");
  const successor = await eventually("another process is the service", () =>
    receiver.notices
      .map((notice) => /^READY=1\nMAINPID=(\d+)/.exec(notice)?.[1])
      .find((pid) => pid !== undefined && Number(pid) !== daemon.pid),
  );
  try {
    await eventually(
      "it lives",
      () =>
        receiver.notices.lastIndexOf("WATCHDOG=1") > receiver.notices.findIndex((notice) => notice.includes(successor)),
    );
    await echoes(address);
    expect(receiver.notices.some((notice) => notice.includes("STOPPING=1"))).toBe(false);
  } finally {
    process.kill(Number(successor), "SIGTERM");
  }
  await eventually("it said that it ends", () => receiver.notices.some((notice) => notice.includes("STOPPING=1")));
  expect(await daemon.exitCode()).toBe(0);
});

test("a socket that was not passed is said, with what to do about it, and ends the start", async () => {
  const path = join(directory, "missing.yaml");
  writeFileSync(path, `admin: { address: off }\n${config(["web"], "127.0.0.1:1")}`);
  const { exitCode, stderr } = await run(
    passing([{ kind: "stream", name: "other", host: "127.0.0.1" }], bunnel("run", "-c", path)),
  );
  expect(exitCode).toBe(1);
  expect(stderr).toContain("no socket named web was passed by systemd (it passed: other): add FileDescriptorName=web");
});

test("a socket that cannot be served is said and ends the start", async () => {
  const path = join(directory, "refused.yaml");
  writeFileSync(path, `admin: { address: off }\n${config(["web"], "127.0.0.1:1")}`);
  const { exitCode, stderr } = await run(
    passing([{ kind: "datagram", name: "web", host: "127.0.0.1" }], bunnel("run", "-c", path)),
  );
  expect(exitCode).toBe(1);
  expect(stderr).toContain("3 (web) is no stream socket");
  expect(stderr).not.toMatch(/\n +at /);
});

const activate = Bun.which("systemd-socket-activate");

test.skipIf(activate === null)("systemd-socket-activate starts it for the first client, who is served", async () => {
  await using endpoint = await startEndpoint();
  const path = join(directory, "activated.yaml");
  const socket = join(directory, "activated.sock");
  writeFileSync(path, `admin: { address: off }\naccess_log: { output: off }\n${config(["web"], endpoint.address)}`);
  await using child = new Child([activate ?? "", "-l", socket, "--fdname=web", ...bunnel("run", "-c", path)]);
  await eventually("it listens", () => listensAt(socket));
  await echoes(`unix:${socket}`);
  await echoes(`unix:${socket}`);
  child.signal("SIGTERM");
  expect(await child.exited).toBe(0);
});
