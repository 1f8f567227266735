// Processes of the same program: messages in order, large ones too, and what goes beside them.

import { expect, test } from "bun:test";
import { join } from "node:path";

test("a channel carries messages in order, hundreds of queues, memory, and the news of the other's end", async () => {
  const program = Bun.spawn([process.execPath, join(import.meta.dir, "../support/channel-pair.ts")], {
    stdout: "pipe",
    stderr: "inherit",
    timeout: 20_000,
  });
  const outcome = JSON.parse(await new Response(program.stdout).text());
  expect(outcome).toMatchObject({
    answers: [
      { kind: "queues", count: 450 },
      { kind: "large", length: 5_000_000 },
      { kind: "pieces", isInTurns: true },
      { kind: "counted", inOrder: 2000 },
    ],
    shared: 4711,
    greeting: "hello from the child",
    alive: true,
    code: null,
    signal: "SIGKILL",
    stillAlive: false,
  });
});

test("a child whose parent has been killed is told so", async () => {
  const source = `
    import { runtime } from ${JSON.stringify(join(import.meta.dir, "../../src/runtime/bun/bun-runtime.ts"))};
    if (runtime.processes.isChild) {
      runtime.processes.parent().listen({ message() {}, end() { console.log("orphaned"); process.exit(0); } });
    } else {
      runtime.processes.start([]);
      setTimeout(() => process.kill(process.pid, "SIGKILL"), 300);
    }`;
  const path = join(process.env.TMPDIR ?? "/tmp", `bunnel-orphan-${process.pid}.ts`);
  await Bun.write(path, source);
  const program = Bun.spawn([process.execPath, path], { stdout: "pipe", timeout: 10_000 });
  expect(await new Response(program.stdout).text()).toBe("orphaned\n");
  expect(await program.exited).not.toBe(0);
  await Bun.file(path).delete();
});
