// Under load, with several workers: the access log is given another name and SIGUSR1 is sent, again and again. Every connection has exactly one whole
// line in one of the files, and the last file gets the last lines. Where the new file cannot be opened, the one that is open is written on.

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../support/child.ts";
import { type AccessLine, type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { findProgram, missingPrograms } from "../support/programs.ts";
import { connectTo, endInOrder, startEndpoint, talking } from "../support/tcp.ts";
import { childrenOf } from "../support/worker-processes.ts";

const ROTATIONS = 5;
/** Connections between two rotations. */
const BETWEEN = 150;
const CLIENTS = 8;

const isRoot = process.getuid?.() === 0;

function config(head: string, output: string, endpoint: string): string {
  return `${head}\nadmin: { address: off }\naccess_log: { output: ${output} }
listeners: [{ name: in, address: 127.0.0.1:0, backend: web }]
backends: { web: { endpoints: ["${endpoint}"] } }
`;
}

function hasOpen(pid: number, path: string): boolean {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).some((name) => readlinkSync(join(folder, name)) === path);
  } catch {
    // It has closed one meanwhile, or has ended.
    return false;
  }
}

function said(daemon: Daemon, message: string): readonly Record<string, unknown>[] {
  return daemon.log.filter(({ msg }) => String(msg).includes(message));
}

async function rotate(daemon: Daemon, name: string): Promise<void> {
  const before = said(daemon, "the access log was reopened").length;
  const path = join(daemon.directory, "access.log");
  renameSync(path, `${path}.${name}`);
  process.kill(daemon.pid, "SIGUSR1");
  await eventually("it was reopened", () => said(daemon, "the access log was reopened").length > before);
}

/** Every line of every file that it has written; throws at one that is torn. */
function allLines(daemon: Daemon): AccessLine[] {
  const files = readdirSync(daemon.directory).filter((name) => name.startsWith("access.log"));
  return files.flatMap((name) => {
    const lines = readFileSync(join(daemon.directory, name), "utf8").split("\n");
    expect(lines.pop()).toBe("");
    return lines.map((line) => JSON.parse(line) as AccessLine);
  });
}

// Workers that have given up their rights could not open a file in this directory: their supervisor does.
for (const head of ["workers: 2", "workers: 0", ...(isRoot ? ["workers: 2\nuser: nobody"] : [])]) {
  test(`${head.replace("\n", ", ")}: no line is lost, torn or doubled`, async () => {
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(config(head, "./access.log", endpoint.address));
    const to = await daemon.address("in");
    let served = 0;
    let stopped = false;
    const client = async (): Promise<void> => {
      while (!stopped) {
        await endInOrder(await talking(to));
        served++;
      }
    };
    const clients = Array.from({ length: CLIENTS }, client);
    for (let rotation = 0; rotation < ROTATIONS; rotation++) {
      const target = served + BETWEEN;
      await eventually("there was load", () => served >= target);
      await rotate(daemon, String(rotation));
    }
    const target = served + BETWEEN;
    await eventually("there was load", () => served >= target);
    stopped = true;
    await Promise.all(clients);
    expect(await daemon.stop()).toBe(0);
    const lines = allLines(daemon);
    expect(new Set(lines.map(({ id }) => id)).size).toBe(lines.length);
    expect(lines.length).toBe(served);
    expect(daemon.records.length).toBeGreaterThan(0);
  });
}

test("where the new file cannot be opened, it is said why, and lines go on to the old one", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(config("workers: 2", "./access.log", endpoint.address));
  const to = await daemon.address("in");
  const path = join(daemon.directory, "access.log");
  renameSync(path, `${path}.old`);
  mkdirSync(path);
  daemon.child.signal("SIGUSR1");
  const [line] = await eventually("it was said", () => {
    const lines = said(daemon, "the access log was not reopened");
    return lines.length > 0 ? lines : undefined;
  });
  expect(line).toMatchObject({ level: 50, problem: expect.stringContaining("EISDIR") });
  await endInOrder(await talking(to));
  await eventually("the line is in the old file", () => readFileSync(`${path}.old`, "utf8").includes('"completed"'));
  rmSync(path, { recursive: true });
  daemon.child.signal("SIGUSR1");
  await eventually("it was reopened", () => said(daemon, "the access log was reopened").length === 1);
  await endInOrder(await talking(to));
  await daemon.recorded(1);
});

test("an old process that still drains after an upgrade writes to the new file, too", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(config("workers: 2", "./access.log", endpoint.address));
  const old = await talking(await daemon.address("in"));
  daemon.child.signal("SIGUSR2");
  await eventually("it was upgraded", () => said(daemon, "upgraded: another process serves now").length === 1);
  const path = join(daemon.directory, "access.log");
  renameSync(path, `${path}.0`);
  daemon.child.signal("SIGUSR1");
  // The one that was first passes it on.
  await eventually("both have reopened it", () => said(daemon, "the access log was reopened").length === 2);
  await endInOrder(old);
  const peer = await connectTo(await daemon.address("in"));
  peer.socket.end("new");
  await eventually("it was served", () => peer.ended);
  await daemon.recorded(2);
  expect(readFileSync(`${path}.0`, "utf8")).toBe("");
});

test("a successor that was about to take over writes to the new file, too", async () => {
  await using endpoint = await startEndpoint();
  // So many that some have opened the file long before the last one has.
  await using daemon = await startDaemon(config("workers: 6", "./access.log", endpoint.address));
  const path = join(daemon.directory, "access.log");
  const before = childrenOf(daemon.pid);
  daemon.child.signal("SIGUSR2");
  const heir = await eventually("there was a successor", () =>
    childrenOf(daemon.pid).find((pid) => !before.includes(pid)),
  );
  await eventually("a worker of it had opened the file", () => childrenOf(heir).some((pid) => hasOpen(pid, path)));
  process.kill(heir, "SIGSTOP");
  expect(said(daemon, "upgraded: another process")).toEqual([]);
  renameSync(path, `${path}.0`);
  daemon.child.signal("SIGUSR1");
  await eventually("it was reopened", () => said(daemon, "the access log was reopened").length === 1);
  process.kill(heir, "SIGCONT");
  await eventually("it was upgraded", () => said(daemon, "upgraded: another process serves now").length === 1);
  await eventually("the successor has reopened it", () => said(daemon, "the access log was reopened").length === 2);
  const to = await daemon.address("in");
  for (let count = 0; count < 24; count++) await endInOrder(await talking(to));
  await daemon.recorded(24);
  expect(readFileSync(`${path}.0`, "utf8")).toBe("");
});

const missing = missingPrograms("logrotate");

test.skipIf(missing !== "")(`logrotate does so with config/bunnel.logrotate ${missing}`.trim(), async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(config("workers: 2", "./access.log", endpoint.address));
  const to = await daemon.address("in");
  await endInOrder(await talking(to));
  await daemon.recorded(1);
  const path = join(daemon.directory, "access.log");
  const rules = join(daemon.directory, "rules");
  const shown = readFileSync(join(import.meta.dir, "../../config/bunnel.logrotate"), "utf8");
  expect(shown).toContain("systemctl kill -s USR1");
  const here = shown
    .replaceAll("/var/log/bunnel/access.log", path)
    .replace(/systemctl kill .*/, `kill -USR1 ${daemon.pid}`);
  writeFileSync(rules, here);
  const { exitCode, stderr } = await run([findProgram("logrotate") ?? "", "-f", "-s", `${rules}.state`, rules]);
  expect([exitCode, stderr]).toEqual([0, ""]);
  await eventually("it was reopened", () => said(daemon, "the access log was reopened").length === 1);
  await endInOrder(await talking(to));
  await daemon.recorded(1);
  expect(readFileSync(`${path}.1`, "utf8").split("\n")).toHaveLength(2);
});
