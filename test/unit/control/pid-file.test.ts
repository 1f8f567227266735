import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PidFile } from "../../../src/control/pid-file.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import { Child } from "../../support/child.ts";
import { bunnel } from "../../support/daemon.ts";
import { eventually } from "../../support/eventually.ts";

const directory = mkdtempSync(join(tmpdir(), "bunnel-pid-"));
afterAll(() => rmSync(directory, { recursive: true }));
let count = 0;

function place(text?: string): string {
  const path = join(directory, `${++count}.pid`);
  if (text !== undefined) writeFileSync(path, text, { mode: 0o600 });
  return path;
}

function pidFile(path: string, pid = 4_000_000): PidFile {
  return new PidFile({ path, pid, files: runtime.files, commandLine: runtime.commandLine });
}

test("holds our process id for all to read, and goes at the end", () => {
  const path = place();
  const file = pidFile(path);
  file.claim();
  expect(readFileSync(path, "utf8")).toBe("4000000\n");
  expect(statSync(path).mode & 0o777).toBe(0o644);
  file.release();
  expect(existsSync(path)).toBe(false);
  file.release();
});

test("a bunnel that runs is not pushed aside, but for the one that we take over from", async () => {
  const config = join(directory, "bunnel.yaml");
  writeFileSync(
    config,
    `workers: 0\nadmin: { address: off }\naccess_log: { output: off }
listeners: [{ name: in, address: "127.0.0.1:0", backend: web }]\nbackends: { web: { endpoints: ["127.0.0.1:1"] } }\n`,
  );
  await using daemon = new Child(bunnel("run", "-c", config));
  await eventually("it runs", () => runtime.commandLine(daemon.pid).includes("run"));
  const path = place(`${daemon.pid}\n`);
  expect(() => pidFile(path).claim()).toThrow(`${path} names process ${daemon.pid}, which is a bunnel that runs`);
  expect(readFileSync(path, "utf8")).toBe(`${daemon.pid}\n`);
  pidFile(path).claim({ takeOver: true });
  expect(readFileSync(path, "utf8")).toBe("4000000\n");
  // The predecessor ends after that.
  pidFile(path, daemon.pid).release();
  expect(readFileSync(path, "utf8")).toBe("4000000\n");
});

test.each([
  ["4194305\n", "has gone"],
  [`${process.ppid}\n`, "is another program by now"],
  ["4000000", "is ours from a life before"],
  ["", "was never written"],
])("%j is replaced: the process %s", (text) => {
  const path = place(text);
  pidFile(path).claim();
  expect(readFileSync(path, "utf8")).toBe("4000000\n");
  expect(statSync(path).mode & 0o777).toBe(0o644);
});

test.each(["listeners: []\n", "12 13\n", "-1\n", "1e400\n"])("a file with %j is something else and stays", (text) => {
  const path = place(text);
  expect(() => pidFile(path).claim()).toThrow("holds no process id");
  expect(readFileSync(path, "utf8")).toBe(text);
});

test("a directory that is not there is said, and nothing is left behind", () => {
  expect(() => pidFile(join(directory, "none/x.pid")).claim()).toThrow("cannot write");
  expect(readdirSync(directory).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});
