// A process that is started as a service manager would start one, tells it whatever each line of its standard input asks for, and prints what it has
// been passed. test/conformance/service-manager.test.ts looks at it.

import { formatAddress } from "../../src/base/address.ts";
import { messageOf, ProxyError } from "../../src/base/errors.ts";
import { ServiceNotices } from "../../src/control/service-manager.ts";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import type { ListeningSocket } from "../../src/runtime/runtime.ts";
import { createLog } from "../../src/telemetry/log.ts";

const manager = runtime.serviceManager;
let isWell = true;
const notices = new ServiceNotices({
  manager,
  log: createLog({ level: "info", format: "json" }),
  isHealthy: () => isWell,
});
const state = { generation: 3, workers: 2, connections: 1204, refused: "" };

print({
  inherited: attempt(() =>
    Object.fromEntries([...runtime.inheritedSockets()].map(([name, { address }]) => [name, formatAddress(address)])),
  ),
  unknown: attempt(() => runtime.bind({ kind: "systemd", name: "unknown-name" }).address),
  watchdogMs: manager?.watchdogMs ?? null,
  successor: manager?.environment ?? null,
  // Bun hands a child the environment of the start unless it is told which (processes.ts tells it).
  left:
    Bun.spawnSync(["env"], { env: process.env })
      .stdout.toString()
      .match(/^(NOTIFY|WATCHDOG|LISTEN)_\w+/gm) ?? [],
});

// One that is passed serves: whoever connects is greeted.
let serving: ListeningSocket | null = null;
const [name] = attempt(() => [...runtime.inheritedSockets().keys()]) as string[];
if (name !== undefined) {
  for (const round of [1, 2]) {
    const listener = runtime.listen<null>({
      socket: runtime.bind({ kind: "systemd", name }),
      handlers: { data() {}, drain() {}, end() {}, close() {} },
      accept(socket) {
        socket.data = null;
        socket.write(new TextEncoder().encode("hello"));
        runtime.endOrderly(socket);
        socket.shutdown();
      },
    });
    listener.resume();
    // What was given up once can be had again.
    if (round === 1) listener.close();
    else serving = listener;
  }
}

for await (const line of console) {
  if (line === "ready") notices.ready(state);
  if (line === "reloading") notices.reloading();
  if (line === "refused") notices.ready({ ...state, refused: `edge.yaml:1:1: ${"no\n".repeat(5000)}` });
  if (line === "stopping") notices.stopping(state);
  if (line === "status") notices.status(state);
  if (line === "well" || line === "unwell") isWell = line === "well";
  if (line === "clock") print(String(manager?.monotonicMicroseconds()));
}
notices.close();
serving?.close();

function attempt(work: () => unknown): unknown {
  try {
    return work();
  } catch (thrown) {
    if (!(thrown instanceof ProxyError)) throw thrown;
    return { code: thrown.code, message: messageOf(thrown) };
  }
}

function print(value: unknown): void {
  console.log(JSON.stringify(value));
}
