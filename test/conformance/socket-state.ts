// Conformance: what the kernel says of a connection, where the runtime can ask it.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe } from "node:test";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import { checkRecordings, dialRecorded, serve } from "./peers.ts";

export function socketStateConformance(runtime: Runtime): void {
  const { socketState } = runtime;
  if (socketState === null) return;
  describe("the state of a socket", () => {
    afterEach(checkRecordings);

    test("is told of a TCP connection while it is open", async () => {
      const server = serve(runtime);
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: server.port });
      const accepted = await server.nth(0);
      dialled.live.write(Buffer.alloc(100_000));
      await eventually("the bytes came", () => accepted.receivedBytes === 100_000);
      await eventually("they were acknowledged", () => socketState(dialled.live)?.unacknowledged === 0);
      for (const { live } of [dialled, accepted]) {
        const state = socketState(live);
        assert(state !== null);
        assert.equal(state.state, "ESTAB");
        assert.equal(state.retransmitsTotal, 0);
        assert(state.rttMicroseconds > 0 && state.rttMicroseconds < 5_000_000, `rtt ${state.rttMicroseconds}`);
        assert(state.rttVarianceMicroseconds > 0);
        assert(state.congestionWindow >= 1 && state.congestionWindow < 100_000);
        assert(state.mss > 500 && state.mss < 65_536, `mss ${state.mss}`);
      }
      dialled.live.shutdown();
      await eventually("the end came", () => accepted.ends === 1);
      assert.equal(socketState(accepted.live)?.state, "CLOSE-WAIT");
      dialled.live.terminate();
      await eventually("it is closed", () => dialled.closes.length === 1 && accepted.closes.length === 1);
      assert.equal(socketState(dialled.live), null);
      server.close();
    });

    test("is not told of a unix socket", async () => {
      const directory = mkdtempSync(join(tmpdir(), "bunnel-state-"));
      const address = { kind: "unix", path: join(directory, "s") } as const;
      const server = serve(runtime, { address });
      const dialled = await dialRecorded(runtime, address);
      assert.equal(socketState(dialled.live), null);
      assert.equal(socketState((await server.nth(0)).live), null);
      dialled.live.terminate();
      await eventually("it is closed", () => server.accepted[0]?.closes.length === 1);
      server.close();
      rmSync(directory, { recursive: true, force: true });
    });
  });
}
