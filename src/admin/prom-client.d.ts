// The part of prom-client that writes the exposition. The whole of it costs 33 ms and 15 MB at import (its collectors pull in `cluster` and
// OpenTelemetry), this part 1 ms; the counters are in our own shared memory, which is read at each scrape.

declare module "prom-client/lib/registry.js" {
  interface Sample {
    readonly labels: Readonly<Record<string, string>>;
    readonly value: number;
    readonly metricName?: string;
  }

  interface Family {
    readonly name: string;
    readonly help: string;
    readonly type: string;
    readonly values: readonly Sample[];
  }

  class Registry {
    static readonly PROMETHEUS_CONTENT_TYPE: string;
    /** The lines of one metric, without a newline at the end. */
    getMetricsAsString(metric: { get(): Family }): Promise<string>;
  }
  export = Registry;
}
