// Processes that change the counts as fast as they can, and are killed at any moment: what they held is given back, to the last connection.

import { expect, test } from "bun:test";
import { closeDescriptor } from "../../../src/runtime/bun/libc.ts";
import { openMemory } from "../../../src/runtime/bun/libc-passing.ts";
import { BunSharedMemory } from "../../../src/runtime/bun/processes.ts";
import { type CountRow, CountTable, DAEMON_SLOT, DAEMON_TABLE } from "../../../src/snapshot/counts.ts";

const SLOTS = 3;
const LIMIT = 40;
const GENERATIONS = 150;
const PROCESSES = 4;

/** Holds and gives back connections of a few slots without a pause. */
const HAMMER = `
  import { CountTable, DAEMON_SLOT, DAEMON_TABLE } from ${JSON.stringify(require.resolve("../../../src/snapshot/counts.ts"))};
  const memory = { bytes: CountTable.bytes(DAEMON_TABLE), map: (offset, size) => Bun.mmap("/proc/self/fd/3", { shared: true, offset, size }).buffer };
  const counts = new CountTable(memory, DAEMON_TABLE).row(Number(process.argv[1]));
  const held = [];
  console.log("ready");
  for (let turn = 0; turn < 50_000_000; turn++) {
    if (held.length > 0 && (turn % 3 === 2 || held.length > 20)) counts.subtract(held.splice(turn % held.length, 1)[0]);
    const slot = turn % ${SLOTS + 1} === ${SLOTS} ? DAEMON_SLOT : turn % ${SLOTS + 1};
    if (counts.addWithin(slot, ${LIMIT})) held.push(slot);
  }
`;

test(`${GENERATIONS} times ${PROCESSES} processes are killed: no count is lost and none is left`, async () => {
  const descriptor = openMemory(CountTable.bytes(DAEMON_TABLE));
  if (typeof descriptor !== "number") throw new Error(descriptor);
  const table = new CountTable(new BunSharedMemory(descriptor), DAEMON_TABLE);
  const slots = [0, 1, 2, DAEMON_SLOT];
  const start = async (): Promise<{ readonly row: number; kill(): Promise<unknown> }> => {
    const { number: row } = table.claim(process.pid) as CountRow;
    const child = Bun.spawn([process.execPath, "-e", HAMMER, String(row)], {
      stdio: ["ignore", "pipe", "inherit", descriptor],
    });
    await child.stdout.getReader().read();
    return {
      row,
      kill() {
        child.kill("SIGKILL");
        return child.exited;
      },
    };
  };
  const running = await Promise.all(Array.from({ length: PROCESSES }, start));
  for (let generation = 0; generation < GENERATIONS; generation++) {
    const victim = running.shift();
    if (victim === undefined) throw new Error("somebody runs");
    await victim.kill();
    // The others go on while it is reclaimed.
    table.reclaim(victim.row, SLOTS);
    for (const slot of slots) {
      expect(table.held(victim.row, slot)).toBe(0);
      expect(table.total(slot)).toBeWithin(0, LIMIT + 1);
    }
    running.push(await start());
  }
  for (const { row, kill } of running) {
    await kill();
    table.reclaim(row, SLOTS);
  }
  expect(slots.map((slot) => table.total(slot))).toEqual([0, 0, 0, 0]);
  expect(table.owners()).toEqual([]);
  closeDescriptor(descriptor);
}, 60_000);
