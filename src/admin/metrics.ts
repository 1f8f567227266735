// GET /metrics: the catalogue in the text format 0.0.4 of Prometheus. It is written in slices: with `workers: 0` connections are relayed by the same process.

import Registry from "prom-client/lib/registry.js";
import { CATALOGUE, type MetricsSource, PREFIX } from "./metrics-catalogue.ts";

/** What the text is to be served as. */
export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** Others have their turn after so long. */
const SLICE_MS = 2;
/** Lines that are written between two looks at the time: less than a millisecond's. */
const PIECE_SAMPLES = 500;

/** All metrics of this moment, as text. */
export async function metricsText(source: MetricsSource): Promise<string> {
  const registry = new Registry();
  const families: string[] = [];
  let sinceMs = performance.now();
  for (const { name: suffix, type, help, read } of CATALOGUE) {
    const name = `${PREFIX}${suffix}`;
    const values = read(source).map((sample) => ({ ...sample, metricName: `${name}${sample.suffix ?? ""}` }));
    const pieces: string[] = [];
    for (let first = 0; first === 0 || first < values.length; first += PIECE_SAMPLES) {
      const piece = { name, type, help, values: values.slice(first, first + PIECE_SAMPLES) };
      const text = await registry.getMetricsAsString({ get: () => piece });
      pieces.push(first === 0 ? text : withoutHead(text));
      if (performance.now() - sinceMs < SLICE_MS) continue;
      await othersHadTheirTurn();
      sinceMs = performance.now();
    }
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
