// The few libc calls that Bun has no API for: dialling with true errors, binding with a long backlog, duplicating a descriptor.
// Linux only. Everything here works on raw descriptors; who owns one is said at each function.

import { dlopen, FFIType, ptr, read } from "bun:ffi";
import { constants } from "node:os";
import type { Address } from "../../base/address.ts";
import { assert } from "../../base/assert.ts";
import { formatIp, parseIp } from "../../base/ip.ts";

const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  pipe2: { args: ["ptr", "i32"], returns: "i32" },
  splice: { args: ["i32", "ptr", "i32", "ptr", "u64", "u32"], returns: FFIType.i64_fast },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
  read: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
  __errno_location: { args: [], returns: "ptr" },
});

// Values of the Linux ABI (x86-64 and arm64 agree on all of them).
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 0o1 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_LINGER = 13;
const SO_REUSEPORT = 15;
const SO_ATTACH_FILTER = 26;
const IPPROTO_TCP = 6;
const TCP_QUICKACK = 12;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const F_DUPFD_CLOEXEC = 1030;
const RLIMIT_NOFILE = 7;
const O_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const MSG_DONTWAIT = 0x40;
const POLLIN = 1;
const SIOCOUTQ = 0x5411;
const F_SETPIPE_SZ = 1031;
const SPLICE_F_MOVE_NONBLOCK = 1 | 2;

// "Keep what is no SYN": load the flags (byte 13 of a TCP header), keep SYN and ACK, drop if SYN stands alone.
const SYN_FILTER = [
  [0x30, 0, 0, 13],
  [0x54, 0, 0, 0x12],
  [0x15, 0, 1, 0x02],
  [0x06, 0, 0, 0],
  [0x06, 0, 0, 0xffff_ffff],
] as const;

const NO = new Int32Array([0]);
// struct linger: on or off, seconds.
const RESET_AT_CLOSE = new Int32Array([1, 0]);
const ORDERLY_CLOSE = new Int32Array([0, 0]);

// errno is thread-local; its address does not change while the thread lives.
const errnoAddress = libc.__errno_location();
assert(errnoAddress !== null, "libc has an errno");
// Some values have two names (EAGAIN is EWOULDBLOCK); the alphabetically first is the usual one, so it goes in last.
const ERRNO_NAMES = new Map(
  Object.entries(constants.errno)
    .sort(([a], [b]) => (a < b ? 1 : -1))
    .map(([name, value]) => [value, name]),
);

/** A socket address as the kernel wants it (sockaddr_in, sockaddr_in6 or sockaddr_un). */
export type SocketAddress = Uint8Array;

/** The kernel's form of an address whose host, if any, is an IP literal. */
export function socketAddress(address: Address): SocketAddress {
  if (address.kind === "unix") return unixSocketAddress(address.path);
  const ip = parseIp(address.host);
  assert(ip !== null, `${address.host} is an IP literal`);
  const bytes = new Uint8Array(ip.length === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ip.length === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, address.port, false);
  bytes.set(ip, ip.length === 4 ? 4 : 8);
  return bytes;
}

// The kernel's addresses, one for each address of a snapshot.
const addressCache = new WeakMap<Address, SocketAddress>();

/** As `socketAddress`, kept for as long as the address object is. */
export function kernelAddress(address: Address): SocketAddress {
  let bytes = addressCache.get(address);
  if (bytes === undefined) {
    bytes = socketAddress(address);
    addressCache.set(address, bytes);
  }
  return bytes;
}

/**
 * A descriptor whose connect is under way (the caller owns it), or the errno's name. With `endsOrderly` it is not `resetAtClose`. The kernel acknowledges at
 * once that it is connected, unless `acknowledges` is false: then only after some 200 ms, or with the first data (tcp(7), TCP_QUICKACK).
 */
export function openConnecting(
  target: SocketAddress,
  { endsOrderly = false, acknowledges = true } = {},
): number | string {
  const descriptor = libc.socket(target[0] as number, SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
  if (descriptor < 0) return lastErrno();
  if (target[0] !== AF_UNIX) {
    if (!endsOrderly) resetAtClose(descriptor, true);
    if (!acknowledges) libc.setsockopt(descriptor, IPPROTO_TCP, TCP_QUICKACK, ptr(NO), NO.byteLength);
  }
  if (libc.connect(descriptor, ptr(target), target.length) < 0) {
    const error = lastErrno();
    if (error !== "EINPROGRESS") {
      libc.close(descriptor);
      return error;
    }
  }
  return descriptor;
}

/**
 * A bound, not yet listening descriptor (the caller owns it), or the errno's name. An IPv6 address does not take IPv4 but for `::`. With
 * `shared` it may overlap with sockets that `allowSharing` was called for.
 */
export function openBound(address: Address, shared = false): number | string {
  const target = socketAddress(address);
  const descriptor = libc.socket(target[0] as number, SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
  if (descriptor < 0) return lastErrno();
  if (address.kind === "tcp") {
    setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
    resetAtClose(descriptor, true);
    if (shared) allowSharing(descriptor, true);
    if (target[0] === AF_INET6) setOption(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, address.host === "::" ? 0 : 1);
  }
  if (libc.bind(descriptor, ptr(target), target.length) < 0) {
    const error = lastErrno();
    libc.close(descriptor);
    return error;
  }
  return descriptor;
}

/**
 * Whether the kernel resets the connection when the descriptor is closed by anything but an orderly end (socket(7), SO_LINGER of 0 s). What is
 * accepted from a listening socket has it from there. Data that has not been acknowledged is lost then.
 */
export function resetAtClose(descriptor: number, isReset: boolean): void {
  const bytes = isReset ? RESET_AT_CLOSE : ORDERLY_CLOSE;
  // A socket that is broken by now refuses it, and nothing is lost by that.
  libc.setsockopt(descriptor, SOL_SOCKET, SO_LINGER, ptr(bytes), bytes.byteLength);
}

/** Whether another socket of this user that asks for it, too, may be bound to an overlapping address (socket(7), SO_REUSEPORT). */
export function allowSharing(descriptor: number, allowed: boolean): void {
  setOption(descriptor, SOL_SOCKET, SO_REUSEPORT, allowed ? 1 : 0);
}

/**
 * Lets a listening TCP socket drop every SYN, and nothing else, so that no new connection begins: a classic socket filter (the BPF of 1992 that
 * packet(7) takes, four instructions on the TCP header). Harmless to connections that are in the queue or completing. "" or the errno's name:
 * there are hosts on which this takes privileges.
 */
export function dropNewcomers(descriptor: number): string {
  // Each is struct sock_filter: code, jump if true, jump if false, constant.
  const program = new DataView(new ArrayBuffer(SYN_FILTER.length * 8));
  for (const [index, [code, ifTrue, ifFalse, constant]] of SYN_FILTER.entries()) {
    program.setUint16(index * 8, code, true);
    program.setUint8(index * 8 + 2, ifTrue);
    program.setUint8(index * 8 + 3, ifFalse);
    program.setUint32(index * 8 + 4, constant, true);
  }
  const bytes = new Uint8Array(program.buffer);
  // struct sock_fprog: length, padding, pointer.
  const filter = new BigUint64Array([BigInt(SYN_FILTER.length), BigInt(ptr(bytes))]);
  const answer = libc.setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, ptr(filter), filter.byteLength);
  return answer < 0 ? lastErrno() : "";
}

/** Whether a read, or an accept, would not have to wait. */
export function isReadable(descriptor: number): boolean {
  const request = new DataView(new ArrayBuffer(8));
  request.setInt32(0, descriptor, true);
  request.setInt16(4, POLLIN, true);
  return libc.poll(ptr(new Uint8Array(request.buffer)), 1, 0) > 0;
}

/**
 * Looks at the first `count` of `requests`, each a struct pollfd of two words (the descriptor, and the events that are asked for with what there is
 * of them in the upper half), without waiting.
 */
export function pollAll(requests: Int32Array, count: number): void {
  libc.poll(ptr(requests), count, 0);
}

/** Why a socket that connects has failed: the errno's name, or "" when it has not. */
export function connectFailure(descriptor: number): string {
  const bytes = new Uint8Array(4);
  if (readOption(descriptor, SOL_SOCKET, SO_ERROR, bytes) < 0) return lastErrno();
  const value = new DataView(bytes.buffer).getInt32(0, true);
  return value === 0 ? "" : errnoName(value);
}

/** Sets the length of the accept queue; the kernel caps it at net.core.somaxconn. "" or the errno's name. */
export function listenOn(descriptor: number, backlog: number): string {
  return libc.listen(descriptor, backlog) < 0 ? lastErrno() : "";
}

/** A second descriptor (the caller's) of the same open socket, or the errno's name. */
export function duplicate(descriptor: number): number | string {
  const copy = libc.fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  return copy < 0 ? lastErrno() : copy;
}

/** Gives a descriptor back. */
export function closeDescriptor(descriptor: number): void {
  libc.close(descriptor);
}

/** The address that a TCP descriptor is bound to, with the true port. */
export function boundAddress(descriptor: number): Address {
  const bytes = new Uint8Array(28);
  const length = new Uint32Array([bytes.length]);
  const failed = libc.getsockname(descriptor, ptr(bytes), ptr(length)) < 0;
  assert(!failed, "a bound descriptor has a name");
  const family = bytes[0];
  const port = ((bytes[2] as number) << 8) | (bytes[3] as number);
  return { kind: "tcp", host: formatIp(family === AF_INET ? bytes.subarray(4, 8) : bytes.subarray(8, 24)), port };
}

/** Soft limit of open descriptors. Bun raises it to the hard limit at start. */
export function descriptorLimit(): number {
  const limits = new BigUint64Array(2);
  libc.getrlimit(RLIMIT_NOFILE, ptr(limits));
  return Number(limits[0]);
}

/** An empty non-blocking pipe (the caller owns both ends), as large as asked for or as this user may have. */
export function openPipe(bytes: number): { readonly readEnd: number; readonly writeEnd: number } {
  const ends = new Int32Array(2);
  const failed = libc.pipe2(ptr(ends), O_NONBLOCK_CLOEXEC) < 0;
  assert(!failed, "a pipe can be opened at start");
  const [readEnd, writeEnd] = ends as unknown as readonly [number, number];
  libc.fcntl(writeEnd, F_SETPIPE_SZ, bytes);
  return { readEnd, writeEnd };
}

/** What a call found when it moved nothing: it would have had to wait. */
const WOULD_WAIT = -1;
/** The same: one of the two descriptors is broken. */
export const BROKEN = -2;

/** Moves up to `length` bytes between a pipe and a socket: how many, 0 at the end of the stream, WOULD_WAIT or BROKEN. */
export function spliceBytes(from: number, to: number, length: number): number {
  const count = Number(libc.splice(from, null, to, null, length, SPLICE_F_MOVE_NONBLOCK));
  return count >= 0 ? count : waitOrBroken();
}

/** Receives what is there, up to the length of `bytes`: how many, 0 at the end of the stream, WOULD_WAIT or BROKEN. */
export function receiveInto(descriptor: number, bytes: Uint8Array): number {
  const count = Number(libc.recv(descriptor, ptr(bytes), bytes.length, MSG_DONTWAIT));
  return count >= 0 ? count : waitOrBroken();
}

/** Reads up to the length of `bytes` from `offset` on: how many, or -1. */
export function readInto(descriptor: number, bytes: Uint8Array, offset: number): number {
  return Number(libc.read(descriptor, ptr(bytes, offset), bytes.length - offset));
}

/** Bytes in the send queue of a socket, sent or not, that its peer has not acknowledged (tcp(7), SIOCOUTQ); 0 when it has none to tell. */
export function unacknowledgedBytes(descriptor: number): number {
  const count = new Int32Array(1);
  return libc.ioctl(descriptor, SIOCOUTQ, ptr(count)) < 0 ? 0 : (count[0] as number);
}

/** An option of a socket, into `bytes`: how many of them the kernel has filled, or -1. */
export function readOption(descriptor: number, level: number, option: number, bytes: Uint8Array): number {
  const length = new Uint32Array([bytes.length]);
  return libc.getsockopt(descriptor, level, option, ptr(bytes), ptr(length)) < 0 ? -1 : (length[0] as number);
}

function waitOrBroken(): number {
  const error = lastErrno();
  return error === "EAGAIN" || error === "EINTR" ? WOULD_WAIT : BROKEN;
}

function setOption(descriptor: number, level: number, option: number, value: number): void {
  const bytes = new Int32Array([value]);
  const failed = libc.setsockopt(descriptor, level, option, ptr(bytes), bytes.byteLength) < 0;
  assert(!failed, "a socket takes its standard options");
}

function unixSocketAddress(path: string): SocketAddress {
  const name = new TextEncoder().encode(path);
  // An abstract name starts with NUL and has none at its end; a path ends with NUL (unix(7)).
  const bytes = new Uint8Array(2 + name.length + (path.startsWith("@") ? 0 : 1));
  bytes[0] = AF_UNIX;
  bytes.set(name, 2);
  if (path.startsWith("@")) bytes[2] = 0;
  return bytes;
}

/** The name of the errno that the last call left. */
export function lastErrno(): string {
  return errnoName(read.i32(errnoAddress as NonNullable<typeof errnoAddress>, 0));
}

function errnoName(value: number): string {
  return ERRNO_NAMES.get(value) ?? `errno ${value}`;
}
