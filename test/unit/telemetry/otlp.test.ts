// However many spans there are, the event loop is held for a few of them at a time, also at the end.

import { expect, test } from "bun:test";
import { createOtlpExporter } from "../../../src/telemetry/otlp.ts";
import type { SpanExportParts } from "../../../src/telemetry/span-export.ts";
import { closeRecord } from "../../support/close-record.ts";
import { Collector } from "../../support/collector.ts";
import { eventually } from "../../support/eventually.ts";

const MOST_IN_A_TURN = 32;

function exporterTo(endpoint: string, settled: (spans: number, problem: string) => void) {
  const parts = { version: "1", instance: "i", worker: 0 } as SpanExportParts;
  return createOtlpExporter({ endpoint, headers: {}, sample: 1, caPem: [], chainPem: "", keyPem: "" }, parts, settled);
}

test("spans go a few at a time, and each is told of once", async () => {
  await using collector = await Collector.start();
  const told: number[] = [];
  const exporter = exporterTo(collector.url, (spans, problem) => void told.push(problem === "" ? spans : Number.NaN));
  for (let count = 0; count < 1000; count++) exporter.add(closeRecord());
  await exporter.close();
  expect(collector.spans.length).toBe(1000);
  expect(new Set(collector.spans.map(({ spanId }) => spanId)).size).toBe(1000);
  expect(Math.max(...collector.batches)).toBe(MOST_IN_A_TURN);
  expect(told.reduce((sum, spans) => sum + spans)).toBe(1000);
});

test("fewer go within a second, and nothing as soon as there is an exporter", async () => {
  await using collector = await Collector.start();
  const exporter = exporterTo(collector.url, () => {});
  await eventually("it was asked", () => collector.batches.length === 1);
  exporter.add(closeRecord());
  await eventually("the span came", () => collector.spans.length === 1);
  expect(collector.batches).toEqual([0, 1]);
  await exporter.close();
});

test("nothing is held by an end with nothing to send, or with a collector that is away", async () => {
  const problems: string[] = [];
  const exporter = exporterTo("https://127.0.0.1:1/v1/traces", (_, problem) => void problems.push(problem));
  exporter.add(closeRecord());
  await exporter.close();
  expect(problems.length).toBe(1);
  expect(problems[0]).not.toBe("");
}, 10_000);
