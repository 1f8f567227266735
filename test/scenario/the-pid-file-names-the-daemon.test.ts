// The PID file names the process that serves, also after an upgrade, is refused to a second daemon, and goes at the end. A user that does not exist is
// refused before anything is opened.

import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";

const REST = `listeners: [{ name: in, address: "127.0.0.1:0", backend: web }]
backends: { web: { endpoints: ["127.0.0.1:1"] } }
`;

test("it is there while the daemon runs, and a second one is refused by name", async () => {
  await using daemon = await startDaemon(`pid_file: ./bunnel.pid\n${REST}`);
  const file = join(daemon.directory, "bunnel.pid");
  expect(readFileSync(file, "utf8")).toBe(`${daemon.pid}\n`);
  const second = await run(bunnel("run", "-c", join(daemon.directory, "bunnel.yaml")));
  expect(second.exitCode).toBe(1);
  expect(second.stderr).toContain(`names process ${daemon.pid}, which is a bunnel that runs`);
  expect(readFileSync(file, "utf8")).toBe(`${daemon.pid}\n`);
  expect(await daemon.stop()).toBe(0);
  expect(existsSync(file)).toBe(false);
});

test("after an upgrade it names the successor", async () => {
  await using daemon = await startDaemon(`workers: 1\npid_file: ./bunnel.pid\n${REST}`);
  const file = join(daemon.directory, "bunnel.pid");
  daemon.child.signal("SIGUSR2");
  const successor = await eventually("another process is named", () => {
    const pid = Number(readFileSync(file, "utf8"));
    return pid === daemon.pid ? 0 : pid;
  });
  try {
    await eventually("the predecessor has finished", () => daemon.log.some(({ msg }) => msg === "stopped"));
    expect(readFileSync(file, "utf8")).toBe(`${successor}\n`);
  } finally {
    process.kill(successor, "SIGTERM");
  }
  await eventually("it is gone", () => !existsSync(file));
});

test("a user that does not exist is refused at its place in the config", async () => {
  await using daemon = await startDaemon(REST);
  const path = join(daemon.directory, "user.yaml");
  writeFileSync(path, `user: no-such-user\npid_file: ./other.pid\n${REST}`);
  const { exitCode, stderr } = await run(bunnel("run", "-c", path));
  expect(exitCode).toBe(78);
  expect(stderr).toContain("user.yaml:1:7: user: there is no user no-such-user on this host");
  expect(existsSync(join(daemon.directory, "other.pid"))).toBe(false);
});
