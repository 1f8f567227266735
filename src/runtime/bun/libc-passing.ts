// The libc calls by which processes share: memory without a name, pairs of sockets, and descriptors sent through them. Linux only.

import { dlopen, FFIType, ptr } from "bun:ffi";
import { assert } from "../../base/assert.ts";
import { lastErrno } from "./libc.ts";

const { symbols: libc } = dlopen("libc.so.6", {
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  sendmsg: { args: ["i32", "ptr", "i32"], returns: FFIType.i64_fast },
  recvmsg: { args: ["i32", "ptr", "i32"], returns: FFIType.i64_fast },
  memfd_create: { args: ["ptr", "u32"], returns: "i32" },
  ftruncate: { args: ["i32", "i64"], returns: "i32" },
});

// Values of the Linux ABI (x86-64 and arm64 agree on all of them).
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const MFD_CLOEXEC = 1;
/** struct cmsghdr: length (8 bytes), level, type; the descriptors follow. */
const HEADER_BYTES = 16;
const DESCRIPTOR_BYTES = 4;
/** The kernel passes 253 in one call (SCM_MAX_FD). */
const DESCRIPTORS_PER_CALL = 200;

/** Memory that reads as zero and has no name (the caller owns the descriptor), or the errno's name. It is only taken when touched. */
export function openMemory(bytes: number): number | string {
  const descriptor = libc.memfd_create(ptr(new TextEncoder().encode("bunnel\0")), MFD_CLOEXEC);
  if (descriptor < 0 || libc.ftruncate(descriptor, BigInt(bytes)) < 0) return lastErrno();
  return descriptor;
}

/** Two connected unix sockets (the caller owns both): a stream, or one that keeps messages apart. */
export function openSocketPair(kind: "stream" | "packets"): readonly [number, number] {
  const ends = new Int32Array(2);
  const type = (kind === "stream" ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_NONBLOCK_CLOEXEC;
  const failed = libc.socketpair(AF_UNIX, type, 0, ptr(ends)) < 0;
  assert(!failed, "a pair of sockets can be opened");
  return [ends[0] as number, ends[1] as number];
}

/** Sends copies of descriptors through a socket of packets. "" or the errno's name. */
export function sendDescriptors(socket: number, descriptors: readonly number[]): string {
  for (let at = 0; at < descriptors.length; at += DESCRIPTORS_PER_CALL) {
    const some = descriptors.slice(at, at + DESCRIPTORS_PER_CALL);
    const control = new DataView(new ArrayBuffer(align(HEADER_BYTES + some.length * DESCRIPTOR_BYTES)));
    control.setBigUint64(0, BigInt(HEADER_BYTES + some.length * DESCRIPTOR_BYTES), true);
    control.setInt32(8, SOL_SOCKET, true);
    control.setInt32(12, SCM_RIGHTS, true);
    for (const [index, descriptor] of some.entries())
      control.setInt32(HEADER_BYTES + index * DESCRIPTOR_BYTES, descriptor, true);
    const message = new Message(new Uint8Array(1), new Uint8Array(control.buffer));
    if (Number(libc.sendmsg(socket, ptr(message.header), MSG_NOSIGNAL)) < 0) return lastErrno();
  }
  return "";
}

/** The descriptors (the caller's) that were sent in as many calls as it took for `count`. */
export function receiveDescriptors(socket: number, count: number): readonly number[] {
  const descriptors: number[] = [];
  while (descriptors.length < count) {
    const control = new Uint8Array(align(HEADER_BYTES + DESCRIPTORS_PER_CALL * DESCRIPTOR_BYTES));
    const message = new Message(new Uint8Array(1), control);
    const received = Number(libc.recvmsg(socket, ptr(message.header), MSG_CMSG_CLOEXEC));
    assert(received > 0, "descriptors are sent before the message that tells of them");
    const view = new DataView(control.buffer);
    const some = (Number(view.getBigUint64(0, true)) - HEADER_BYTES) / DESCRIPTOR_BYTES;
    assert(some > 0, "a packet on this socket has descriptors");
    for (let index = 0; index < some; index++)
      descriptors.push(view.getInt32(HEADER_BYTES + index * DESCRIPTOR_BYTES, true));
  }
  return descriptors;
}

/** struct msghdr with one buffer and one control buffer. It holds on to what it points to. */
class Message {
  readonly header: BigUint64Array;
  readonly keeps: readonly object[];

  constructor(payload: Uint8Array, control: Uint8Array) {
    const vector = new BigUint64Array([BigInt(ptr(payload)), BigInt(payload.length)]);
    this.keeps = [payload, control, vector];
    // Name, its length, vector, its length, control, its length, flags.
    const header = [0, 0, ptr(vector), 1, ptr(control), control.length, 0];
    this.header = new BigUint64Array(header.map(BigInt));
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
