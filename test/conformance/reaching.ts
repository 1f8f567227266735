// Conformance, line 7 of the contract for `reach`: whether an address takes connections is found out with the system's errors and a deadline, the
// program that listens there hears nothing of it, and nothing is left of it.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe } from "node:test";
import type { Address } from "../../src/base/address.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";
import { type BlackHole, closedPort, leaveStaleSocket, openBlackHole } from "./dialling.ts";
import { test } from "./lines.ts";
import { listenAsPeer, openDescriptors, quiet } from "./peers.ts";

export function reachConformance(runtime: Runtime): void {
  const { reach } = runtime;
  if (reach === null) return;
  const ask = (address: Address, timeoutMs = 5000): Promise<string> =>
    new Promise((reached) => {
      let hasReturned = false;
      reach({
        address,
        timeoutMs,
        reached(code) {
          assert(hasReturned, "never before `reach` has returned");
          reached(code);
        },
      });
      hasReturned = true;
    });

  describe("7. an address is reached, or not, with the system's errors", () => {
    let directory = "";
    let blackHole: BlackHole | null = null;
    before(async () => {
      directory = mkdtempSync(join(tmpdir(), "bunnel-reach-"));
      blackHole = await openBlackHole();
    });
    after(() => {
      blackHole?.close();
      rmSync(directory, { recursive: true, force: true });
    });
    const hole = (): Address => {
      assert(blackHole !== null);
      return blackHole.address;
    };

    for (const host of ["127.0.0.1", "::1"])
      test(`one that listens on ${host} is reached, and is not told`, async () => {
        const descriptors = openDescriptors();
        const peers = await listenAsPeer((peer) => peer.socket.end(), { host });
        const address = { kind: "tcp", host, port: peers.port } as const;
        const codes = await Promise.all(Array.from({ length: 50 }, () => ask(address)));
        assert.deepEqual(codes, Array(50).fill(""));
        // Longer than the kernel keeps an acknowledgement back. A host that is too busy to take them back in time may let some through.
        await quiet(300);
        assert(peers.peers.length < 25, `${peers.peers.length} of 50 were accepted`);
        peers.close();
        await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
        assert.equal(runtime.clock.armed, 0);
      });

    test("a unix socket is reached", async () => {
      const path = join(directory, "live.sock");
      const peers = await listenAsPeer((peer) => peer.socket.end(), { path });
      assert.equal(await ask({ kind: "unix", path }), "");
      peers.close();
    });

    test("ECONNREFUSED, ENETUNREACH and ENOENT, as for a dial", async () => {
      const port = await closedPort();
      assert.equal(await ask({ kind: "tcp", host: "127.0.0.1", port }), "ECONNREFUSED");
      assert.equal(await ask({ kind: "tcp", host: "::1", port }), "ECONNREFUSED");
      assert.equal(await ask({ kind: "tcp", host: "255.255.255.255", port: 9 }), "ENETUNREACH");
      assert.equal(await ask({ kind: "unix", path: join(directory, "none.sock") }), "ENOENT");
      const path = join(directory, "stale.sock");
      await leaveStaleSocket(path);
      assert.equal(await ask({ kind: "unix", path }), "ECONNREFUSED");
    });

    test("ETIMEDOUT at the deadline when nobody answers, and the descriptor is gone", async () => {
      const descriptors = openDescriptors();
      const startMs = runtime.preciseNowMs();
      assert.equal(await ask(hole(), 300), "ETIMEDOUT");
      const tookMs = runtime.preciseNowMs() - startMs;
      assert(tookMs >= 270 && tookMs < 600, `took ${tookMs} ms`);
      assert.equal(openDescriptors(), descriptors);
      assert.equal(runtime.clock.armed, 0);
    });

    test("after `cancel` nothing is said, and the descriptor is gone", async () => {
      const descriptors = openDescriptors();
      const said: string[] = [];
      const attempts = [hole(), hole(), { kind: "tcp", host: "255.255.255.255", port: 9 } as const].map((address) =>
        reach({ address, timeoutMs: 100, reached: (code) => void said.push(code) }),
      );
      for (const attempt of attempts) attempt.cancel();
      attempts[0]?.cancel();
      assert.equal(openDescriptors(), descriptors);
      await quiet(200);
      assert.deepEqual(said, []);
      assert.equal(runtime.clock.armed, 0);
    });

    test("1000 at once, some given up by others and some begun by others, are each told once", async () => {
      const peers = await listenAsPeer((peer) => peer.socket.resetAndDestroy());
      const port = await closedPort();
      const targets: readonly Address[] = [
        { kind: "tcp", host: "127.0.0.1", port: peers.port },
        { kind: "tcp", host: "127.0.0.1", port },
        hole(),
        { kind: "tcp", host: "255.255.255.255", port: 9 },
      ];
      const descriptors = openDescriptors();
      const told: number[] = Array(1000).fill(0);
      let more = 0;
      const attempts = Array.from(told, (_, index) =>
        reach({
          address: targets[index % targets.length] as Address,
          timeoutMs: 100,
          reached() {
            told[index] = (told[index] as number) + 1;
            if (index % 8 === 0) attempts[index + 6]?.cancel();
            if (index % 100 === 0)
              reach({ address: { kind: "tcp", host: "127.0.0.1", port }, timeoutMs: 100, reached: () => void more++ });
          },
        }),
      );
      await eventually("all were told", () => runtime.clock.armed === 0);
      assert.equal(more, 10);
      // The holes at 8n + 6 were given up before their deadlines.
      assert.deepEqual(
        told,
        told.map((_, index) => (index % 8 === 6 ? 0 : 1)),
      );
      await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
      peers.close();
    });
  });
}
