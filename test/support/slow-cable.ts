// A long cable between two network namespaces: what goes in at one end comes out at the other after a while, in order. Kernels without the netem discipline cannot do that
// themselves, so this program holds the packets, between two TUN devices that it makes and puts into the namespaces. Loss is nft's to add.
//
//   bun slow-cable.ts NAMESPACE_A NAMESPACE_B ADDRESS_A ADDRESS_B DELAY_MS     says "ready"; the devices, called `slow`, go when it ends

import { dlopen } from "bun:ffi";
import { spawnSync } from "node:child_process";
import { constants, openSync } from "node:fs";

// linux/if_tun.h: _IOW('T', 202, int), IFF_TUN | IFF_NO_PI.
const TUNSETIFF = 0x400454ca;
const TUN_WITHOUT_HEADER = 0x1001;
const MOST_BYTES = 65_536;
const LOOK_MS = 1;
const NAME = "slow";

const { symbols: libc } = dlopen("libc.so.6", {
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: "i64" },
  write: { args: ["i32", "ptr", "u64"], returns: "i64" },
});

const [a = "", b = "", addressA = "", addressB = "", delay = "0"] = process.argv.slice(2);
const delayMs = Number(delay);
const endA = plug(a, { name: `${NAME}${process.pid}a`, own: addressA, peer: addressB });
const endB = plug(b, { name: `${NAME}${process.pid}b`, own: addressB, peer: addressA });
carry(endA, endB);
carry(endB, endA);
console.log("ready");

/** A device in a namespace, with an address of its own and a route to the other end. Its descriptor. */
function plug(namespace: string, { name, own, peer }: { name: string; own: string; peer: string }): number {
  const descriptor = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
  // struct ifreq: 16 bytes for the name, then flags.
  const request = new Uint8Array(40);
  new TextEncoder().encodeInto(name, request);
  new DataView(request.buffer).setInt16(16, TUN_WITHOUT_HEADER, true);
  if (libc.ioctl(descriptor, TUNSETIFF, request) < 0) throw new Error(`no TUN device ${name}`);
  ip("link", "set", name, "netns", namespace, "name", NAME);
  ip("-n", namespace, "address", "add", own, "peer", peer, "dev", NAME);
  ip("-n", namespace, "link", "set", NAME, "up");
  return descriptor;
}

function carry(from: number, to: number): void {
  const packets: { readonly atMs: number; readonly bytes: Uint8Array }[] = [];
  const buffer = new Uint8Array(MOST_BYTES);
  setInterval(() => {
    const nowMs = performance.now();
    for (;;) {
      const count = Number(libc.read(from, buffer, buffer.length));
      if (count <= 0) break;
      packets.push({ atMs: nowMs + delayMs, bytes: buffer.slice(0, count) });
    }
    for (let packet = packets[0]; packet !== undefined && packet.atMs <= nowMs; packet = packets[0]) {
      packets.shift();
      // One that the other end does not take is lost, as on any cable.
      libc.write(to, packet.bytes, packet.bytes.length);
    }
  }, LOOK_MS);
}

function ip(...parameters: readonly string[]): void {
  const { status, stderr } = spawnSync("ip", [...parameters], { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${parameters.join(" ")}: ${stderr}`);
}
