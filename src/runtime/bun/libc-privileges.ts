// The libc calls by which a process becomes another user. Linux with glibc, whose setuid and setgid act on all threads of the process (nptl(7)).

import { CString, dlopen, FFIType, ptr, read } from "bun:ffi";
import { lastErrno } from "./libc.ts";

const { symbols: libc } = dlopen("libc.so.6", {
  getpwnam: { args: ["ptr"], returns: "ptr" },
  initgroups: { args: ["ptr", "u32"], returns: "i32" },
  setgid: { args: ["u32"], returns: "i32" },
  setuid: { args: ["u32"], returns: "i32" },
  getresuid: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
  getresgid: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
  prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
  syscall: { args: [FFIType.i64, "u64", "u64", "ptr"], returns: FFIType.i64_fast },
});

// Values of the Linux ABI; only the number of the system call differs.
const PR_SET_NO_NEW_PRIVS = 38;
const SYS_SECCOMP = process.arch === "arm64" ? 277 : 317;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
// "Return SECCOMP_RET_ALLOW": struct sock_filter of one instruction.
const ALLOW_ALL = [0x06, 0x7fff_0000] as const;
// struct passwd: name, password (pointers), user id, group id.
const PASSWD_UID_AT = 16;
const PASSWD_GID_AT = 20;

/** What the user database says of a user. */
export interface UserEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** The entry of a user, or null when there is none. */
export function findUser(name: string): UserEntry | null {
  if (name === "" || name.includes("\0")) return null;
  const entry = libc.getpwnam(ptr(cString(name)));
  if (entry === null) return null;
  return {
    name: String(new CString(read.ptr(entry, 0) as NonNullable<typeof entry>)),
    uid: read.u32(entry, PASSWD_UID_AT),
    gid: read.u32(entry, PASSWD_GID_AT),
  };
}

/** Takes on the groups, the group and the user, in the only order that works. "" or the call that failed and the errno's name. */
export function become({ name, uid, gid }: UserEntry): string {
  if (libc.initgroups(ptr(cString(name)), gid) < 0) return `initgroups: ${lastErrno()}`;
  if (libc.setgid(gid) < 0) return `setgid: ${lastErrno()}`;
  if (libc.setuid(uid) < 0) return `setuid: ${lastErrno()}`;
  return "";
}

/** Whether this process can take on that user or group id. When it can, it has. */
export function canBecome({ uid, gid }: { readonly uid: number; readonly gid: number }): boolean {
  return libc.setuid(uid) === 0 || libc.setgid(gid) === 0;
}

/** Real, effective and saved ids: three of the user, three of the group. */
export function currentIds(): readonly number[] {
  const ids = new Uint32Array(6);
  libc.getresuid(ptr(ids, 0), ptr(ids, 4), ptr(ids, 8));
  libc.getresgid(ptr(ids, 12), ptr(ids, 16), ptr(ids, 20));
  return [...ids];
}

/** Nothing that this thread, or what it starts from now on, executes gains privileges (prctl(2)). "" or the errno's name. */
export function forbidNewPrivileges(): string {
  return libc.prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n) < 0 ? lastErrno() : "";
}

/**
 * The same for the threads that exist already, for which prctl has no option: a filter of system calls that allows all of them, given to every
 * thread, takes the flag along (seccomp(2), SECCOMP_FILTER_FLAG_TSYNC). To be called after `forbidNewPrivileges`. "" or the errno's name.
 */
export function forbidNewPrivilegesToAllThreads(): string {
  const instruction = new DataView(new ArrayBuffer(8));
  instruction.setUint16(0, ALLOW_ALL[0], true);
  instruction.setUint32(4, ALLOW_ALL[1], true);
  const bytes = new Uint8Array(instruction.buffer);
  // struct sock_fprog: length, padding, pointer.
  const filter = new BigUint64Array([1n, BigInt(ptr(bytes))]);
  const call = BigInt(SYS_SECCOMP);
  const answer = libc.syscall(call, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, ptr(filter));
  // A thread that could not be changed is reported by its id.
  if (Number(answer) > 0) return `thread ${answer}`;
  return Number(answer) < 0 ? lastErrno() : "";
}

function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}
