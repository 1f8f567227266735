// The processes of a daemon as the kernel shows them: who its workers are, and which clients each of them holds. Read from /proc, so that a test need not
// believe what the daemon says of itself.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** The pids of a process's children, lowest first. */
export function childrenOf(pid: number): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && parentOf(name) === pid)
    .map(Number)
    .sort((a, b) => a - b);
}

/** The pids of a daemon's workers. What else it may have started is left out. */
export function workersOf(pid: number): readonly number[] {
  return childrenOf(pid).filter((child) => readText(`/proc/${child}/cmdline`).split("\0").includes("worker"));
}

/** The pids of processes that have this text in their command line. */
export function processesWith(text: string): readonly number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => readText(`/proc/${pid}/cmdline`).includes(text)).map(Number);
}

/** SIGKILL to a process that the test has started, or that was started by one; harmless when it has ended. */
export function endNow(pid: number): void {
  orElse(() => process.kill(pid, "SIGKILL"), true);
}

/** Whether a process is there and has not ended. */
export function isAlive(pid: number): boolean {
  const state = /^State:\s+(\w)/m.exec(readText(`/proc/${pid}/status`))?.[1];
  return state !== undefined && state !== "Z";
}

/** Descriptors that a process has open. */
export function descriptorsOf(pid: number): number {
  return readNames(`/proc/${pid}/fd`).length;
}

/** The ports of clients whose connections to a local port this process holds. Those that wait unaccepted in a queue belong to nobody. */
export function clientPortsHeldBy(pid: number, localPort: number): readonly number[] {
  const inodes = new Set<string>();
  for (const name of readNames(`/proc/${pid}/fd`)) {
    const inode = /^socket:\[(\d+)\]$/.exec(readLink(`/proc/${pid}/fd/${name}`))?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  const local = localPort.toString(16).toUpperCase().padStart(4, "0");
  const ports: number[] = [];
  // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
  for (const line of readText(`/proc/${pid}/net/tcp`).split("\n").slice(1)) {
    const [, from, to, , , , , , , inode] = line.trim().split(/\s+/);
    if (from?.endsWith(`:${local}`) && inode !== undefined && inodes.has(inode))
      ports.push(Number.parseInt(to?.split(":")[1] ?? "", 16));
  }
  return ports.filter((port) => port > 0);
}

function parentOf(pid: string): number {
  return Number(/^PPid:\s+(\d+)/m.exec(readText(`/proc/${pid}/status`))?.[1] ?? -1);
}

// Processes and descriptors go away while they are looked at.

function readText(path: string): string {
  return orElse(() => readFileSync(path, "utf8"), "");
}

function readNames(path: string): readonly string[] {
  return orElse(() => readdirSync(path), []);
}

function readLink(path: string): string {
  return orElse(() => readlinkSync(path), "");
}

function orElse<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
