// The simulated origination keeps the seam's contract where tests of the proxy lean on it.

import { describe, expect, test } from "bun:test";
import type { OriginateTlsOptions, StreamSocket, TlsResult } from "../../../src/runtime/runtime.ts";
import type { HandshakeScript } from "../../support/sim-link.ts";
import { SimRuntime } from "../../support/sim-runtime.ts";
import { Schedule } from "../../support/sim-schedule.ts";
import { ORDERLY, Probe } from "../../support/sim-worker.ts";

const LEAF = Uint8Array.of(0x30, 0);
const SCRIPT: HandshakeScript = { hello: Buffer.from("flight"), outcome: "secured", delayMs: 5, certificate: LEAF };
const ADDRESS = { kind: "tcp", host: "10.0.0.1", port: 1 } as const;
const IDENTITY = {
  chainPem: "",
  keyPem: "",
  serverCaPem: ["ca"],
  serverCrlPem: [],
  minVersion: "1.3",
  alpn: [],
} as const;

/** Dials a scripted server, secures the socket, and lets happen what follows within `forMs`. */
function originate(
  script: Partial<HandshakeScript>,
  options: Partial<OriginateTlsOptions<string>> & { readonly speaksFirst?: boolean; readonly forMs?: number } = {},
) {
  const schedule = new Schedule(1);
  const server = new (class extends Probe {
    readonly serverHandshake = { ...SCRIPT, ...script };
  })();
  const runtime = new SimRuntime({
    schedule,
    quirks: ORDERLY,
    dialled: () => ({ kind: "connects", afterMs: 0, program: server }),
  });
  const told: string[] = [];
  const handlers = {
    data: (_: StreamSocket<string>, bytes: Uint8Array) => void told.push(Buffer.from(bytes).toString()),
    drain() {},
    end: () => void told.push("end"),
    close: (_: StreamSocket<string>, code: string) => void told.push(code),
  };
  let result: TlsResult<string> | null = null;
  const dial = runtime.dial({ address: ADDRESS, handlers, data: "plain", timeoutMs: 100 });
  const secured = dial.result.then(async (dialled) => {
    if (!dialled.ok) throw new Error(dialled.code);
    if (options.speaksFirst) server.send("220");
    schedule.run(5);
    told.length = 0;
    const context = runtime.clientContext(IDENTITY);
    const all = { context, serverName: "", accept: () => "", handlers, data: "secured", timeoutMs: 50, ...options };
    const originated = runtime.originateTls(dialled.socket, all);
    schedule.run(options.forMs ?? 20);
    result = await originated;
    return result;
  });
  schedule.run(1);
  return secured.then((verdict) => ({ verdict, told, server, runtime, schedule }));
}

describe("a simulated origination", () => {
  test("secures a server that accept accepts, whose bytes then come by the new handlers", async () => {
    const { verdict, told, server, runtime, schedule } = await originate({});
    expect(verdict.ok && verdict.socket.data).toBe("secured");
    expect(verdict.peerCertificate).toBe(LEAF);
    if (verdict.ok) expect(runtime.peerCertificate(verdict.socket)).toBe(LEAF);
    server.send("hello");
    schedule.run(10);
    expect(told.join("")).toBe("hello");
    server.link.farCut();
    schedule.run(10);
    expect(told.join("")).toBe("hellotruncated");
    if (verdict.ok) expect(runtime.peerCertificate(verdict.socket)).toBeNull();
    expect(schedule.violations).toEqual([]);
  });

  test.each([
    ["whom accept refuses", {}, { accept: () => "no" }, "certificate", "no"],
    ["whose chain is bad", { outcome: "certificate" }, {}, "certificate", "CERT_HAS_EXPIRED"],
    ["that speaks no TLS", { outcome: "handshake" }, {}, "handshake", "WRONG_VERSION_NUMBER"],
    ["that says nothing", { outcome: "silence" }, { forMs: 200 }, "timeout", ""],
    ["that speaks first", {}, { speaksFirst: true }, "handshake", "SPOKE_FIRST"],
  ] as const)("refuses a server %s, and tells nobody else", async (_, script, options, failure, detail) => {
    const { verdict, told, server, runtime, schedule } = await originate(script, options);
    schedule.run(20);
    expect(verdict).toMatchObject({ ok: false, failure, detail });
    expect(told).toEqual([]);
    expect(server.resets).toBe(1);
    expect(runtime.clock.armed).toBe(0);
    expect(schedule.violations).toEqual([]);
  });
});
