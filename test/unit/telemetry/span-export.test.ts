// How many spans may be on their way, what becomes of those that are too many or that nobody takes, and who is told.

import { expect, test } from "bun:test";
import type { CloseRecord } from "../../../src/telemetry/access-log.ts";
import { MOST_UNSETTLED, type Settled, SpanExport } from "../../../src/telemetry/span-export.ts";
import { closeRecord } from "../../support/close-record.ts";
import { eventually } from "../../support/eventually.ts";

const WELL = closeRecord();
const FAILED = closeRecord({ closeReason: "connect_refused", error: "ECONNREFUSED" });

class Fixture {
  readonly added: CloseRecord[] = [];
  readonly said: string[] = [];
  dropped = 0;
  closed = false;
  settled: Settled = () => {};
  readonly spans: SpanExport;
  readonly #loaded = Promise.withResolvers<void>();

  constructor({ sample = 1, closes = true }: { readonly sample?: number; readonly closes?: boolean } = {}) {
    const say = (...said: readonly unknown[]): void => void this.said.push(String(said.at(-1)).slice(0, 24));
    this.spans = new SpanExport(
      { endpoint: "", headers: {}, sample, caPem: [], chainPem: "", keyPem: "" },
      {
        version: "1",
        instance: "i",
        worker: 0,
        log: { info: say, warn: say } as never,
        dropped: (spans) => {
          this.dropped += spans;
        },
        load: async (_settings, _parts, settled) => {
          this.settled = settled;
          await this.#loaded.promise;
          const close = async (): Promise<void> => {
            this.closed = true;
            if (!closes) await new Promise(() => {});
          };
          return { add: (record) => void this.added.push(record), close };
        },
      },
    );
  }

  load(): void {
    this.#loaded.resolve();
  }

  fail(): void {
    this.#loaded.reject(new Error("no such package"));
  }
}

test("what comes before the SDK is loaded waits for it", async () => {
  const fixture = new Fixture();
  fixture.spans.write(WELL);
  expect(fixture.added).toEqual([]);
  fixture.load();
  await eventually("it was handed on", () => fixture.added.length === 1);
  fixture.spans.write(FAILED);
  expect(fixture.added).toEqual([WELL, FAILED]);
});

test("beyond the limit spans are dropped and counted, until others have arrived", async () => {
  const fixture = new Fixture();
  fixture.load();
  for (let count = 0; count < MOST_UNSETTLED + 10; count++) fixture.spans.write(WELL);
  expect(fixture.dropped).toBe(10);
  await eventually("they were handed on", () => fixture.added.length === MOST_UNSETTLED);
  fixture.settled(100, "");
  for (let count = 0; count < 101; count++) fixture.spans.write(WELL);
  expect(fixture.dropped).toBe(11);
  expect(fixture.said).toEqual([]);
});

test("those that did not arrive are counted, and that is said once, and when it is over", async () => {
  const fixture = new Fixture();
  fixture.load();
  for (let count = 0; count < 30; count++) fixture.spans.write(WELL);
  for (const problem of ["ECONNREFUSED", "ECONNREFUSED", ""]) fixture.settled(10, problem);
  expect(fixture.dropped).toBe(20);
  expect(fixture.said).toEqual(["spans are being dropped:", "spans reach the collecto"]);
});

test("of those that went well a share is exported, and all of the others", () => {
  const fixture = new Fixture({ sample: 0 });
  fixture.load();
  for (let count = 0; count < 5; count++) fixture.spans.write(WELL);
  for (let count = 0; count < MOST_UNSETTLED + 1; count++) fixture.spans.write(FAILED);
  expect(fixture.dropped).toBe(1);
});

test("the end waits for what arrives in time, and counts the rest", async () => {
  const fixture = new Fixture({ closes: false });
  fixture.load();
  for (let count = 0; count < 7; count++) fixture.spans.write(WELL);
  const startedMs = performance.now();
  await fixture.spans.close();
  expect(performance.now() - startedMs).toBeLessThan(3000);
  expect([fixture.closed, fixture.dropped]).toEqual([true, 7]);
  const { length } = fixture.said;
  // The process may live on, with another collector.
  fixture.settled(4, "ETIMEDOUT");
  fixture.settled(3, "");
  expect([fixture.dropped, fixture.said.length]).toEqual([7, length]);
});

test("an SDK that cannot be loaded costs spans, and nothing else", async () => {
  const fixture = new Fixture();
  fixture.spans.write(WELL);
  fixture.fail();
  await eventually("it was counted", () => fixture.dropped === 1);
  fixture.spans.write(WELL);
  await fixture.spans.close();
  expect([fixture.dropped, fixture.said]).toEqual([2, ["spans are being dropped:"]]);
});
