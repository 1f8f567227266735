import { expect, test } from "bun:test";
import { readinessOf } from "../../../src/admin/readiness.ts";
import type { Status } from "../../../src/snapshot/status.ts";
import { sampleStatus } from "../../support/status-sample.ts";

const [first, second] = sampleStatus().workers as [Status["workers"][number], Status["workers"][number]];

test("ready: serving, and every worker by the generation of now", () => {
  expect(readinessOf(sampleStatus())).toMatchObject({ ready: true, reasons: [] });
});

test.each<[string, Partial<Status>, readonly string[]]>([
  ["starting", { state: "starting" }, ["the daemon is starting"]],
  ["draining", { state: "draining" }, ["the daemon is draining"]],
  ["no worker", { workers: [] }, ["there is no worker"]],
  [
    "a worker that died",
    { workers: [first, { ...second, state: "waiting to restart" }] },
    ["worker 2 is waiting to restart"],
  ],
  ["a worker that starts", { workers: [{ ...first, state: "starting", generation: 0 }] }, ["worker 1 is starting"]],
  [
    "a worker that is behind",
    { workers: [first, { ...second, generation: 2 }] },
    ["worker 2 goes by generation 2, not 3"],
  ],
])("not ready: %s", (_, changes, reasons) => {
  expect(readinessOf(sampleStatus(changes))).toMatchObject({ ready: false, reasons });
});
