// A program that starts itself a second time and tries out the channel between the two; run by test/conformance/processes.test.ts. It prints one
// JSON object with what came of it.

import type { Address } from "../../src/base/address.ts";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import { descriptorLimit } from "../../src/runtime/bun/libc.ts";
import type { BoundSocket, Channel } from "../../src/runtime/runtime.ts";

const QUEUES = 450;
const MESSAGES = 2000;
const LARGE = 5_000_000;
const PIECES = 100;
const LOOPBACK: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };

const { processes } = runtime;
if (processes === null) throw new Error("Bun has processes");
if (processes.isChild) child(processes.parent());
else await parent();

async function parent(): Promise<void> {
  const queues = Array.from({ length: QUEUES }, () => runtime.bind(LOOPBACK));
  const memory = processes?.shareMemory(4096);
  if (processes === null || memory === undefined) throw new Error("Bun has processes");
  const { pid, channel, exited, kill } = processes.start(["child"]);
  const ended = Promise.withResolvers<void>();
  const answers: Record<string, unknown>[] = [];
  const counted = Promise.withResolvers<void>();
  channel.listen({
    message(message) {
      answers.push(message as Record<string, unknown>);
      if ((message as { kind: string }).kind === "counted") counted.resolve();
    },
    end: () => ended.resolve(),
  });
  for (let count = 0; count < MESSAGES; count++) channel.send({ kind: "count", count });
  channel.send({ kind: "queues", addresses: queues.map(({ address }) => address) }, [memory, ...queues]);
  channel.send({ kind: "large", text: "x".repeat(LARGE) });
  for (let count = 0; count < PIECES; count++) channel.send({ kind: "piece", text: "x".repeat(LARGE / PIECES) });
  channel.send({ kind: "one more queue", address: queues[0]?.address }, [queues[0] as BoundSocket]);
  await counted.promise;
  const shared = Atomics.load(new Int32Array(memory.map(0, 4096)), 7);
  // The queues live in the child alone now.
  const [first] = queues as [BoundSocket];
  for (const queue of queues) queue.close();
  const { host, port } = first.address as Extract<Address, { kind: "tcp" }>;
  const greeting = await new Promise<string>((resolve) => {
    void Bun.connect({
      hostname: host,
      port,
      socket: { data: (_, bytes) => resolve(bytes.toString()), connectError: () => resolve("refused"), error() {} },
    });
  });
  const alive = processes.isAlive(pid);
  kill("SIGKILL");
  const { code, signal } = await exited;
  await ended.promise;
  channel.send({ kind: "nobody reads this" });
  const outcome = { answers, shared, greeting, alive, code, signal, stillAlive: processes.isAlive(pid) };
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
  process.exit(0);
}

function child(channel: Channel): void {
  let inOrder = 0;
  let pieces = 0;
  let turns = 0;
  const countTurns = (): void => {
    if (pieces < PIECES) turns++;
    if (pieces < PIECES) setImmediate(countTurns);
  };
  channel.listen({
    message(received, passed) {
      const message = received as { kind: string; count: number; text: string; addresses: Address[]; address: Address };
      if (message.kind === "count" && message.count === inOrder) inOrder++;
      if (message.kind === "queues") {
        Atomics.store(new Int32Array(passed.memory(0).map(0, 4096)), 7, 4711);
        const queues = message.addresses.map((address, index) => passed.socket(index + 1, address));
        const listening = runtime.listen({
          socket: queues[0] as BoundSocket,
          handlers: { data() {}, drain() {}, end() {}, close() {} },
          accept(socket) {
            socket.data = null;
            socket.write(new TextEncoder().encode("hello from the child"));
          },
        });
        listening.resume();
        channel.send({ kind: "queues", count: queues.length, limit: descriptorLimit() });
      }
      if (message.kind === "large") channel.send({ kind: "large", length: message.text.length });
      if (message.kind === "piece") {
        if (++pieces === 1) countTurns();
        // Five megabytes in short messages: whoever receives them turns to other sockets in between.
        if (pieces === PIECES) channel.send({ kind: "pieces", isInTurns: turns > 5 });
      }
      if (message.kind === "one more queue") {
        passed.socket(0, message.address).close();
        channel.send({ kind: "counted", inOrder });
      }
    },
    end: () => process.exit(3),
  });
}
