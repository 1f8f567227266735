// Spans by OTLP/HTTP, through the packages of OpenTelemetry itself. To be loaded only where it is wanted: they cost some megabytes. Their defaults
// suit a service with one span for each request of a person; what differs here is said where it stands.

import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { defaultResource, resourceFromAttributes } from "@opentelemetry/resources";
import { AlwaysOnSampler, type ReadableSpan, type SpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { spanOf } from "./span.ts";
import type { Exporter, Settled, SpanExportParts, SpanSettings } from "./span-export.ts";

/** A batch is made into JSON in one go, and the relay stands still meanwhile: this many take a third of a millisecond, and the request as much again. */
const BATCH = 32;
/** Requests at a time: a collector that takes 20 ms for each has 12,000 spans a second. */
const MOST_REQUESTS = 8;
const FLUSH_EVERY_MS = 1000;
/** Until the collector has taken a batch, with the attempts that the SDK makes. */
const EXPORT_MS = 5000;

/** Sends spans to a collector. Throws when the settings are none for the SDK. */
export function createOtlpExporter(
  { endpoint, headers, caPem, chainPem, keyPem }: SpanSettings,
  { version, instance, worker }: SpanExportParts,
  settled: Settled,
): Exporter {
  const otlp = new OTLPTraceExporter({
    url: endpoint,
    headers: { ...headers },
    timeoutMillis: EXPORT_MS,
    httpAgentOptions: {
      keepAlive: true,
      // Or a variable of the environment could turn it off (NODE_TLS_REJECT_UNAUTHORIZED).
      rejectUnauthorized: true,
      // With an empty list nobody would be trusted, or everybody: that is not said anywhere.
      ...(caPem.length > 0 && { ca: [...caPem] }),
      ...(chainPem !== "" && { cert: chainPem, key: keyPem }),
    },
    concurrencyLimit: MOST_REQUESTS,
  });
  const batches = new Batches((spans, done) => {
    otlp.export(spans, ({ code, error }) => {
      settled(spans.length, code === 0 ? "" : problemOf(error));
      done();
    });
  });
  // Nothing, as OTLP allows: whether the collector can be reached is known at once, and what the first request has to load is loaded before there is much to relay.
  batches.flush();
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
    spanProcessors: [batches],
  });
  const tracer = provider.getTracer("bunnel", version);
  return {
    add(record) {
      const { name, startMs, endMs, attributes, failure } = spanOf(record, worker);
      const span = tracer.startSpan(name, { kind: SpanKind.SERVER, root: true, startTime: startMs, attributes });
      if (failure !== null) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
      span.end(endMs);
    },
    close: async () => {
      await provider.shutdown();
      await otlp.shutdown();
    },
  };
}

/** Hands on spans a batch at a time, and one batch in a turn of the event loop. The SDK's own makes all that it has into JSON at once when it is ended, and waits for each answer. */
class Batches implements SpanProcessor {
  readonly #send: (spans: ReadableSpan[], done: () => void) => void;
  #spans: ReadableSpan[] = [];
  /** Whether less than a batch is to be sent, too. */
  #isDue = false;
  #requests = 0;
  #isScheduled = false;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #ended: (() => void) | null = null;

  constructor(send: (spans: ReadableSpan[], done: () => void) => void) {
    this.#send = send;
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    // How many there may be is known to whoever adds.
    this.#spans.push(span);
    if (this.#spans.length >= BATCH) this.#schedule();
    else this.#timer ??= setTimeout(() => this.flush(), FLUSH_EVERY_MS);
  }

  /** Sends what there is, even if it is nothing. */
  flush(): void {
    this.#isDue = true;
    this.#schedule();
  }

  async forceFlush(): Promise<void> {
    this.flush();
  }

  async shutdown(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = resolve;
    if (this.#spans.length > 0) this.flush();
    this.#tellEnd();
    await promise;
  }

  #schedule(): void {
    if (this.#isScheduled || this.#requests >= MOST_REQUESTS) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#sendBatch();
    });
  }

  #sendBatch(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const batch = this.#spans.slice(0, BATCH);
    this.#spans = this.#spans.slice(BATCH);
    if (this.#spans.length === 0) this.#isDue = false;
    this.#requests++;
    this.#send(batch, () => {
      this.#requests--;
      this.#goOn();
      this.#tellEnd();
    });
    this.#goOn();
  }

  #goOn(): void {
    const { length } = this.#spans;
    if (length >= BATCH || (this.#isDue && length > 0)) this.#schedule();
    else if (length > 0) this.#timer ??= setTimeout(() => this.flush(), FLUSH_EVERY_MS);
  }

  #tellEnd(): void {
    if (this.#spans.length === 0 && this.#requests === 0 && !this.#isScheduled) this.#ended?.();
  }
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
