// What a process tree has cost: CPU time and resident memory, read from the kernel and never from the program measured.
// CPU comes from the per-process CPU clock of clock_getcpuclockid(3): nanoseconds, all threads, those that have ended
// included. Children that have ended are in their parent's line of /proc/PID/stat. That counts in ticks of 10 ms, and /proc/PID/task/*/schedstat forgets a thread that has ended, which
// the helper threads of a JavaScript engine do.
import { dlopen, FFIType, ptr } from "bun:ffi";
import { readdirSync, readFileSync } from "node:fs";

/** The fields of one /proc/PID/stat line that the lab needs. */
export interface ProcessStat {
  readonly pid: number;
  /** The command name, without its parentheses. It may itself hold spaces and parentheses. */
  readonly command: string;
  /** One letter of proc(5): R running, S sleeping, Z zombie, … */
  readonly state: string;
  readonly parentPid: number;
  /** User and system time of the process and of its children that have been waited for, in ticks. */
  readonly ticks: number;
  /** Of these, the children's, and their children's. */
  readonly endedTicks: number;
}

/** Parses a line of /proc/PID/stat; undefined when it is not one. The name ends at the LAST parenthesis (proc(5)). */
export function parseProcessStat(line: string): ProcessStat | undefined {
  const open = line.indexOf("(");
  const close = line.lastIndexOf(")");
  if (open < 0 || close < open) return undefined;
  const pid = Number.parseInt(line.slice(0, open), 10);
  const fields = line
    .slice(close + 1)
    .trim()
    .split(" ");
  const [state, parent] = fields;
  const parentPid = Number.parseInt(parent ?? "", 10);
  // utime, stime, cutime and cstime are the 14th to 17th field of the line, and the state is the third.
  const sum = (from: number, to: number): number =>
    fields.slice(from, to).reduce((total, field) => total + Number(field), 0);
  if (state === undefined || Number.isNaN(pid) || Number.isNaN(parentPid)) return undefined;
  return { pid, command: line.slice(open + 1, close), state, parentPid, ticks: sum(11, 15), endedTicks: sum(13, 15) };
}

/** `root` and every descendant of it in `all`, the root first. */
export function descendants(root: number, all: readonly ProcessStat[]): number[] {
  const found = [root];
  for (const parent of found) {
    for (const process of all) {
      if (process.parentPid === parent && process.state !== "Z") found.push(process.pid);
    }
  }
  return found;
}

/** The pids of the living process tree under `root`, the root included. */
export function processTree(root: number): number[] {
  return descendants(root, everyProcess());
}

function everyProcess(): ProcessStat[] {
  const all: ProcessStat[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = parseProcessStat(readOrEmpty(`/proc/${name}/stat`));
    if (stat !== undefined) all.push(stat);
  }
  return all;
}

/** What Linux counts in /proc/PID/stat, on every architecture (USER_HZ). */
const TICKS_PER_SECOND = 100;
const TREE_READINGS_MAX = 10;

/**
 * CPU seconds (user and system) used so far by the processes under these roots, and by those of them that have ended and were
 * waited for. The living are exact; the ended are counted together in units of 10 ms. Throws when a root is gone.
 */
export function cpuSeconds(roots: readonly number[]): number {
  for (let reading = 1; ; reading += 1) {
    const all = everyProcess();
    const pids = new Set(roots.flatMap((root) => descendants(root, all)));
    try {
      let total = 0;
      // What has ended since the listing has no clock any more, and is in its parent's count only when that is read again.
      for (const { pid, endedTicks } of all) {
        if (pids.delete(pid)) total += processCpuSeconds(pid) + endedTicks / TICKS_PER_SECOND;
      }
      const [gone] = pids;
      if (gone === undefined) return total;
      throw new Error(`process ${gone} is gone: it has no CPU clock`);
    } catch (error) {
      if (reading === TREE_READINGS_MAX) throw error;
    }
  }
}

/** Resident bytes of these processes together; pages they share are counted in each. Throws when one is gone. */
export function residentBytes(pids: readonly number[]): number {
  let total = 0;
  for (const pid of pids) {
    // The exact page walk: VmRSS in /proc/PID/status is a per-CPU counter that may lag by megabytes.
    const kilobytes = parseRollupRss(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
    if (kilobytes === undefined) throw new Error(`/proc/${pid}/smaps_rollup names no Rss`);
    total += kilobytes * 1024;
  }
  return total;
}

/** The `Rss:` line of /proc/PID/smaps_rollup, in kB as the kernel writes it (units of 1024 bytes). */
export function parseRollupRss(text: string): number | undefined {
  const match = /^Rss:\s+(\d+) kB$/m.exec(text);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

/** Busy, stolen and total ticks of the whole machine since it booted. */
export interface MachineTicks {
  readonly busy: number;
  readonly stolen: number;
  readonly total: number;
}

/** Parses the first line of /proc/stat (user nice system idle iowait irq softirq steal …). */
export function parseMachineTicks(text: string): MachineTicks {
  const line = text.slice(0, text.indexOf("\n"));
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, stolen = 0] = line
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const busy = user + nice + system + irq + softirq;
  return { busy, stolen, total: busy + stolen + idle + iowait };
}

/** The machine's ticks now. */
export function machineTicks(): MachineTicks {
  return parseMachineTicks(readFileSync("/proc/stat", "utf8"));
}

/** Ticks that this process and all its descendants, living or ended, have used so far. */
export function ownTicks(): number {
  const all = everyProcess();
  const own = new Set(descendants(process.pid, all));
  return all.reduce((sum, { pid, ticks }) => sum + (own.has(pid) ? ticks : 0), 0);
}

const libc = dlopen("libc.so.6", {
  clock_gettime: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
});
const timespec = new BigInt64Array(2);

function processCpuSeconds(pid: number): number {
  // A process's clock id is its inverted pid over the clock type; 2 is CPUCLOCK_SCHED (linux/posix-timers.h).
  if (libc.symbols.clock_gettime((~pid << 3) | 2, ptr(timespec)) !== 0) {
    throw new Error(`process ${pid} is gone: it has no CPU clock`);
  }
  return Number(timespec[0]) + Number(timespec[1]) / 1e9;
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // The process ended between the listing and the reading.
  }
}
