// The least that a probe can cost: the system calls of one and nothing else, by FFI, as many in a second and in batches of a tick as the daemon makes them
// (health-probes.ts runs both at once). `tcp` is taken back before the endpoint's program sees it, `http` sends a request and reads an answer.
//
//   bun bench/studies/probe-floor.ts PORT PER_SECOND tcp|http        until it is killed

import { dlopen, FFIType, ptr } from "bun:ffi";

const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  send: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
  shutdown: { args: ["i32", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
});

const TICK_MS = 25;
const [port = 0, perSecond = 1000] = process.argv.slice(2, 4).map(Number);
const isHttp = process.argv[4] === "http";
const AF_INET = 2;
const STREAM_NONBLOCK_CLOEXEC = 0o1 | 0o4000 | 0o2000000;
const [SOL_SOCKET, SO_LINGER, IPPROTO_TCP, TCP_QUICKACK] = [1, 13, 6, 12];
const [POLLIN, POLLOUT, SHUT_WR, MSG_NOSIGNAL] = [1, 4, 1, 0x4000];
const LINGER = new Int32Array([1, 0]);
const NO = new Int32Array([0]);
const REQUEST = new TextEncoder().encode(
  `GET / HTTP/1.1\r\nHost: 127.1.0.1:${port}\r\nUser-Agent: bunnel-health\r\nAccept: */*\r\nConnection: close\r\n\r\n`,
);
const buffer = new Uint8Array(64 * 1024);
/** As many addresses as the daemon has endpoints by default. */
const addresses = Array.from({ length: 5000 }, (_, i) =>
  Uint8Array.of(AF_INET, 0, port >> 8, port & 255, 127, 1 + (i >> 8), i & 255, 1, 0, 0, 0, 0, 0, 0, 0, 0),
);
/** One struct pollfd each. */
const requests = new Int32Array(2 * 16_384);
let underWay = 0;
let begun = 0;
const startMs = performance.now();

setInterval(() => {
  look();
  const due = ((performance.now() - startMs) / 1000) * perSecond;
  for (; begun < due && underWay < 16_000; begun++) begin(addresses[begun % addresses.length] as Uint8Array);
}, TICK_MS);

function begin(address: Uint8Array): void {
  const descriptor = libc.socket(AF_INET, STREAM_NONBLOCK_CLOEXEC, 0);
  if (!isHttp) {
    libc.setsockopt(descriptor, SOL_SOCKET, SO_LINGER, ptr(LINGER), 8);
    libc.setsockopt(descriptor, IPPROTO_TCP, TCP_QUICKACK, ptr(NO), 4);
  }
  libc.connect(descriptor, ptr(address), address.length);
  watch(descriptor, POLLOUT);
}

function watch(descriptor: number, events: number): void {
  requests[2 * underWay] = descriptor;
  requests[2 * underWay + 1] = events;
  underWay++;
}

function look(): void {
  const count = underWay;
  libc.poll(ptr(requests), count, 0);
  underWay = 0;
  for (let index = 0; index < count; index++) {
    const descriptor = requests[2 * index] as number;
    const events = requests[2 * index + 1] as number;
    const asked = events & 0xffff;
    if (events >>> 16 === 0) watch(descriptor, asked);
    else if (!isHttp) libc.close(descriptor);
    else if (asked === POLLOUT) {
      libc.send(descriptor, ptr(REQUEST), REQUEST.length, MSG_NOSIGNAL);
      watch(descriptor, POLLIN);
    } else if (Number(libc.recv(descriptor, ptr(buffer), buffer.length, 0)) > 0) {
      libc.shutdown(descriptor, SHUT_WR);
      watch(descriptor, POLLIN);
    } else libc.close(descriptor);
  }
}
