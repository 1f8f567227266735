// Spans by OTLP/HTTP, through the packages of OpenTelemetry itself. To be loaded only where it is wanted: they cost some megabytes. Their defaults
// suit a service with one span for each request of a person; what differs here is said where it stands.

import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { defaultResource, resourceFromAttributes } from "@opentelemetry/resources";
import { AlwaysOnSampler, BatchSpanProcessor, type SpanExporter, TracerProvider } from "@opentelemetry/sdk-trace";
import { spanOf } from "./span.ts";
import { type Exporter, MOST_UNSETTLED, type Settled, type SpanExportParts, type SpanSettings } from "./span-export.ts";

/** A batch is made into JSON in one go, and the relay stands still meanwhile: this many take about a millisecond. */
const BATCH = 128;
const FLUSH_EVERY_MS = 1000;
/** Until the collector has taken a batch, with the attempts that the SDK makes. */
const EXPORT_MS = 5000;

/** Sends spans to a collector. Throws when the settings are none for the SDK. */
export function createOtlpExporter(
  { endpoint, headers }: SpanSettings,
  { version, instance, worker }: SpanExportParts,
  settled: Settled,
): Exporter {
  const otlp = new OTLPTraceExporter({
    url: endpoint,
    headers: { ...headers },
    timeoutMillis: EXPORT_MS,
    // At the end all batches are sent at once.
    concurrencyLimit: MOST_UNSETTLED / BATCH + 1,
  });
  // Each batch is told of exactly once, here; what the processor makes of it is not looked at.
  const telling: SpanExporter = {
    export(spans, done) {
      otlp.export(spans, (result) => {
        settled(spans.length, result.code === 0 ? "" : problemOf(result.error));
        done(result);
      });
    },
    shutdown: () => otlp.shutdown(),
  };
  const processor = new BatchSpanProcessor({
    exporter: telling,
    maxExportBatchSize: BATCH,
    // Whoever adds knows the limit; the processor would drop without a word.
    maxQueueSize: 2 * MOST_UNSETTLED,
    scheduledDelayMillis: FLUSH_EVERY_MS,
    exportTimeoutMillis: 2 * EXPORT_MS,
  });
  const identity = {
    "service.name": "bunnel",
    "service.version": version,
    "service.instance.id": instance,
    "bunnel.worker": worker,
  };
  const provider = new TracerProvider({
    resource: defaultResource().merge(resourceFromAttributes(identity)),
    // Who is to be exported has been decided by then.
    sampler: new AlwaysOnSampler(),
    spanProcessors: [processor],
  });
  const tracer = provider.getTracer("bunnel", version);
  return {
    add(record) {
      const { name, startMs, endMs, attributes, failure } = spanOf(record, worker);
      const span = tracer.startSpan(name, { kind: SpanKind.SERVER, root: true, startTime: startMs, attributes });
      if (failure !== null) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
      span.end(endMs);
    },
    close: () => provider.shutdown(),
  };
}

/** The error of an export, without what the collector has answered: nobody knows what that repeats. */
function problemOf(error: Error | undefined): string {
  const code = (error as { readonly code?: unknown } | undefined)?.code;
  const name = typeof code === "number" ? `HTTP status ${code}` : code;
  return (
    [name, error?.message]
      .filter((part) => part !== undefined && part !== "")
      .join(": ")
      .slice(0, 200) || "unknown"
  );
}
