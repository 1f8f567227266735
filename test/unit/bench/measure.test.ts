// The lab's readings of /proc: names with spaces and parentheses, process trees, exact memory, and a CPU clock that agrees
// with the process itself.
import { expect, test } from "bun:test";
import {
  cpuSeconds,
  descendants,
  parseMachineTicks,
  parseProcessStat,
  parseRollupRss,
  processTree,
  residentBytes,
} from "../../../bench/measure.ts";

test("a stat line is split at the last parenthesis of the name", () => {
  const parsed = parseProcessStat("42 (a (b) c) S 7 42 42 0 -1 4194304 88 9 8 6 151 20 3 1 20 0 1");
  expect(parsed).toEqual({ pid: 42, command: "a (b) c", state: "S", parentPid: 7, ticks: 175, endedTicks: 4 });
});

test("what is no stat line gives nothing", () => {
  for (const line of ["", "42", "42 (name", "x (name) S 7", "42 (name) S", ") 42 ("]) {
    expect(parseProcessStat(line)).toBeUndefined();
  }
});

test("descendants are found through several generations, without zombies and without strangers", () => {
  const process = (pid: number, parentPid: number, state = "S") => ({
    pid,
    parentPid,
    state,
    command: "x",
    ticks: 0,
    endedTicks: 0,
  });
  const all = [process(1, 0), process(12, 11), process(10, 1), process(11, 10), process(13, 10, "Z"), process(20, 1)];
  expect(descendants(10, all)).toEqual([10, 11, 12]);
  expect(descendants(99, all)).toEqual([99]);
});

test("a child process belongs to our tree while it lives", async () => {
  const child = Bun.spawn(["cat"], { stdin: "pipe" });
  expect(processTree(process.pid)).toContain(child.pid);
  child.stdin.end();
  await child.exited;
  expect(processTree(process.pid)).not.toContain(child.pid);
});

test("the CPU clock of a process agrees with what the process says of itself", () => {
  const before = cpuSeconds([process.pid]);
  const usedBefore = process.cpuUsage();
  const until = performance.now() + 100;
  while (performance.now() < until);
  const used = process.cpuUsage(usedBefore);
  const counted = cpuSeconds([process.pid]) - before;
  expect(counted).toBeGreaterThan(0);
  expect(Math.abs(counted - (used.user + used.system) / 1e6)).toBeLessThan(0.03);
});

test("CPU time of a thread that has ended still counts", async () => {
  const before = cpuSeconds([process.pid]);
  const source = "const until = performance.now() + 150; while (performance.now() < until); postMessage(0);";
  const worker = new Worker(URL.createObjectURL(new Blob([source])));
  await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
  const closed = new Promise((resolve) => worker.addEventListener("close", resolve, { once: true }));
  worker.terminate();
  await closed;
  // This thread only waited. Half of what the other burnt is enough on a machine that others use too.
  expect(cpuSeconds([process.pid]) - before).toBeGreaterThan(0.075);
});

test("CPU time of a child that has ended still counts, also of one that nobody knew of", async () => {
  const burn = 'i=0; while [ "$i" -lt 200000 ]; do i=$((i+1)); done';
  const parent = Bun.spawn(["sh", "-c", `read go; (${burn}); echo burnt; read stop`], {
    stdin: "pipe",
    stdout: "pipe",
  });
  const before = cpuSeconds([parent.pid]);
  parent.stdin.write("go\n");
  parent.stdin.flush();
  await parent.stdout.getReader().read();
  // The child has ended: there is nothing under the parent any more, and the parent itself has only waited.
  expect(processTree(parent.pid)).toEqual([parent.pid]);
  expect(cpuSeconds([parent.pid]) - before).toBeGreaterThan(0.05);
  parent.stdin.end();
  await parent.exited;
});

test("the cost of a process that is gone is an error, not a zero", async () => {
  const child = Bun.spawn(["true"]);
  await child.exited;
  expect(() => cpuSeconds([child.pid])).toThrow("gone");
  expect(() => residentBytes([child.pid])).toThrow();
});

test("resident memory is read in units of 1024 bytes", () => {
  expect(parseRollupRss("00400000-7fff ---p 0 00:00 0 [rollup]\nRss:                1724 kB\nPss: 9 kB\n")).toBe(1724);
  expect(parseRollupRss("Pss: 9 kB\n")).toBeUndefined();
  expect(residentBytes([process.pid])).toBeGreaterThan(1024 * 1024);
});

test("machine ticks keep stolen time apart from busy and idle time", () => {
  expect(parseMachineTicks("cpu  10 1 20 100 5 2 3 7 0 0\ncpu0 1 1\n")).toEqual({ busy: 36, stolen: 7, total: 148 });
});
