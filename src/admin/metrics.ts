// GET /metrics: the catalogue in the text format 0.0.4 of Prometheus. It is written in slices: with `workers: 0` connections are relayed by the same process.

import Registry from "prom-client/lib/registry.js";
import { CATALOGUE, type MetricsSource, PREFIX, type Sample } from "./metrics-catalogue.ts";

/** What the text is to be served as. */
export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** How long to write before yielding to the event loop. */
const SLICE_MS = 2;
/** Lines that are written between two looks at the time. */
const PIECE_SAMPLES = 100;

/** All metrics of this moment, as text. */
export async function metricsText(source: MetricsSource): Promise<string> {
  const registry = new Registry();
  const families: string[] = [];
  let sinceMs = performance.now();
  for (const { name: suffix, type, help, read } of CATALOGUE) {
    const name = `${PREFIX}${suffix}`;
    const pieces: string[] = [];
    let values: (Pick<Sample, "labels" | "value"> & { readonly metricName: string })[] = [];
    const write = async (): Promise<void> => {
      const text = await registry.getMetricsAsString({ get: () => ({ name, type, help, values }) });
      pieces.push(pieces.length === 0 ? text : withoutHead(text));
      values = [];
      if (performance.now() - sinceMs < SLICE_MS) return;
      await othersHadTheirTurn();
      sinceMs = performance.now();
    };
    for (const sample of read(source)) {
      if (values.length === PIECE_SAMPLES) await write();
      values.push({ labels: sample.labels, value: sample.value, metricName: `${name}${sample.suffix ?? ""}` });
    }
    await write();
    families.push(pieces.join("\n"));
  }
  return `${families.join("\n\n")}\n`;
}

/** Without the lines that say what the metric is. */
function withoutHead(text: string): string {
  return text.slice(text.indexOf("\n", text.indexOf("\n") + 1) + 1);
}

function othersHadTheirTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
