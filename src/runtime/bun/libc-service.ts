// The libc calls for talking to a service manager: sending a datagram, the clock that it uses, and the type of a descriptor that it has passed.
// Linux only.

import { dlopen, FFIType, ptr } from "bun:ffi";
import type { Address } from "../../base/address.ts";
import { boundAddress, lastErrno, socketAddress } from "./libc.ts";

const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: FFIType.i64_fast },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
});

// Values of the Linux ABI (x86-64 and arm64 agree on all of them).
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_SNDTIMEO = 21;
const SO_ACCEPTCONN = 30;
const MSG_NOSIGNAL = 0x4000;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const CLOCK_MONOTONIC = 1;
/** struct sockaddr_un. */
const UNIX_ADDRESS_BYTES = 110;

/** Sends a text as one datagram to a unix socket (`/path` or `@abstract`). Blocks while the receiver is full, for a limited time. Returns "" or the errno's name. */
export function sendDatagram(path: string, text: string, waitMs: number): string {
  const descriptor = libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (descriptor < 0) return lastErrno();
  const bytes = new TextEncoder().encode(text);
  const target = socketAddress({ kind: "unix", path });
  // struct timeval: seconds, microseconds.
  const patience = new BigInt64Array([BigInt(Math.floor(waitMs / 1000)), BigInt((waitMs % 1000) * 1000)]);
  libc.setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, ptr(patience), patience.byteLength);
  const sent = Number(libc.sendto(descriptor, ptr(bytes), bytes.length, MSG_NOSIGNAL, ptr(target), target.length));
  const failure = sent < 0 ? lastErrno() : "";
  libc.close(descriptor);
  return failure;
}

/** CLOCK_MONOTONIC, which all processes of the host share, in microseconds. */
export function monotonicMicroseconds(): bigint {
  // struct timespec: seconds, nanoseconds.
  const time = new BigInt64Array(2);
  libc.clock_gettime(CLOCK_MONOTONIC, ptr(time));
  return (time[0] as bigint) * 1_000_000n + (time[1] as bigint) / 1000n;
}

/** Lets a descriptor end with this program instead of going to those that it starts. False when there is no such descriptor. */
export function keepFromChildren(descriptor: number): boolean {
  return libc.fcntl(descriptor, F_SETFD, FD_CLOEXEC) === 0;
}

/** Where a listening stream socket listens, or what the descriptor is instead. */
export function listeningAddress(descriptor: number): Address | string {
  const type = socketOption(descriptor, SO_TYPE);
  if (typeof type === "string") return type === "ENOTSOCK" ? "no socket" : `no open descriptor (${type})`;
  if (type !== SOCK_STREAM) return "no stream socket";
  if (socketOption(descriptor, SO_ACCEPTCONN) !== 1) return "a socket that does not listen";
  const bytes = new Uint8Array(UNIX_ADDRESS_BYTES);
  const length = new Uint32Array([bytes.length]);
  if (libc.getsockname(descriptor, ptr(bytes), ptr(length)) < 0) return lastErrno();
  const family = bytes[0];
  if (family === AF_INET || family === AF_INET6) return boundAddress(descriptor);
  if (family !== AF_UNIX) return `a socket of the address family ${family}`;
  const name = bytes.subarray(2, length[0]);
  const isAbstract = name[0] === 0;
  // A path ends with NUL, or where the kernel's structure ends; an abstract name is what follows its first NUL (unix(7)).
  const end = isAbstract ? name.length : name.indexOf(0);
  const text = new TextDecoder().decode(name.subarray(isAbstract ? 1 : 0, end < 0 ? name.length : end));
  return { kind: "unix", path: isAbstract ? `@${text}` : text };
}

/** The value of an option, or the errno's name. */
function socketOption(descriptor: number, option: number): number | string {
  const value = new Int32Array(1);
  const length = new Uint32Array([value.byteLength]);
  if (libc.getsockopt(descriptor, SOL_SOCKET, option, ptr(value), ptr(length)) < 0) return lastErrno();
  return value[0] as number;
}
