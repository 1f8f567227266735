// How long the turns of an event loop take, watched from within by a timer of 1 ms. Time in which a thread waits for a CPU says something about the machine and
// not about what runs there, so it is told apart, by the kernel's account of each thread (/proc/PID/task/TID/schedstat).

import { dlopen, FFIType, ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

/** How often is looked. */
export const TICK_MS = 1;
/** Shorter turns of the loop are not told. */
const TOLD_MS = 2;
const LINE = "loop held ";
const CLOCK_THREAD_CPUTIME_ID = 3;

/** Something that took time, in ms. */
export interface Span {
  /** Its end, since 1970. */
  readonly atMs: number;
  readonly wallMs: number;
  /** Of that, ready to run but without a CPU. */
  readonly waitMs: number;
}

/** A turn of the event loop. */
export interface Turn extends Span {
  readonly pid: number;
  /** On a CPU. */
  readonly cpuMs: number;
}

/** Tells of the long turns of this process, in lines on its standard output. */
export function watchLoop(): void {
  const libc = dlopen("libc.so.6", { clock_gettime: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 } });
  const timespec = new BigInt64Array(2);
  const look = () => {
    libc.symbols.clock_gettime(CLOCK_THREAD_CPUTIME_ID, ptr(timespec));
    return {
      atMs: nowMs(),
      cpuMs: Number(timespec[0]) * 1000 + Number(timespec[1]) / 1e6,
      waitMs: waitedMs(process.pid),
    };
  };
  let last = look();
  setInterval(() => {
    const { atMs, cpuMs, waitMs } = look();
    const wallMs = atMs - last.atMs;
    const turn: Turn = { pid: process.pid, atMs, wallMs, cpuMs: cpuMs - last.cpuMs, waitMs: waitMs - last.waitMs };
    last = { atMs, cpuMs, waitMs };
    if (wallMs > TOLD_MS) process.stdout.write(`${LINE}${JSON.stringify(turn)}\n`);
  }, TICK_MS);
}

/** The turns that a process tells of on its standard output: a list that grows. */
export function turnsOf(output: Readable): readonly Turn[] {
  const turns: Turn[] = [];
  createInterface(output).on("line", (line) => {
    if (line.startsWith(LINE)) turns.push(JSON.parse(line.slice(LINE.length)) as Turn);
  });
  return turns;
}

/** Median, 90th percentile and largest. */
export function spread(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number): string =>
    (sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0).toFixed(1);
  return `${at(0.5)} / ${at(0.9)} / ${at(1)}`;
}

/** Milliseconds since 1970, finely, and the same in all processes. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** For how long the first thread of a process has been ready to run but without a CPU. */
export function waitedMs(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "latin1").split(" ")[1]) / 1e6;
}
