// An OpenTelemetry collector as a daemon sees it: takes OTLP/HTTP as JSON and keeps the spans.

import http from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";

/** A span as it came. */
export interface ReceivedSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly startMs: number;
  readonly endMs: number;
  /** 2 = error. */
  readonly status: number;
  readonly statusMessage: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly resource: Readonly<Record<string, unknown>>;
}

/** What it does with a request. `hangs`: it never answers. */
export type CollectorMood = "takes" | "refuses" | "hangs";

/** A collector. To be declared with `await using`. */
export class Collector implements AsyncDisposable {
  readonly spans: ReceivedSpan[] = [];
  readonly headers: http.IncomingHttpHeaders[] = [];
  readonly paths: string[] = [];
  /** Spans of each request. */
  readonly batches: number[] = [];
  mood: CollectorMood = "takes";
  readonly #server: http.Server | https.Server;

  private constructor(server: http.Server | https.Server) {
    this.#server = server;
    server.on("request", (request: http.IncomingMessage, response: http.ServerResponse) => {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => this.#take(request, Buffer.concat(parts).toString(), response));
    });
  }

  /** Listens on the loopback address; with `tls` by https, and then whoever shows no certificate of `ca`, if that is given, is turned away. */
  static async start(port = 0, tls?: Pick<https.ServerOptions, "cert" | "key" | "ca">): Promise<Collector> {
    const asked = tls?.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true };
    const server = tls === undefined ? http.createServer() : https.createServer({ ...tls, ...asked });
    const collector = new Collector(server);
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    return collector;
  }

  get url(): string {
    return `${this.#server instanceof https.Server ? "https" : "http"}://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/traces`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take(request: http.IncomingMessage, body: string, response: http.ServerResponse): void {
    this.headers.push(request.headers);
    this.paths.push(`${request.method} ${request.url}`);
    if (this.mood === "hangs") return;
    if (this.mood === "takes") {
      const received = spansOf(JSON.parse(body));
      this.batches.push(received.length);
      this.spans.push(...received);
    }
    response.writeHead(this.mood === "takes" ? 200 : 401, { "content-type": "application/json" }).end("{}");
  }
}

interface KeyValue {
  readonly key: string;
  readonly value: unknown;
}

interface Body {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] };
    readonly scopeSpans: readonly { readonly spans: readonly Readonly<Record<string, unknown>>[] }[];
  }[];
}

function spansOf(body: Body): ReceivedSpan[] {
  return body.resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => {
        const status = (span.status ?? {}) as { readonly code?: number; readonly message?: string };
        return {
          name: String(span.name),
          kind: Number(span.kind),
          traceId: String(span.traceId),
          spanId: String(span.spanId),
          ...(typeof span.parentSpanId === "string" && { parentSpanId: span.parentSpanId }),
          startMs: Number(span.startTimeUnixNano) / 1e6,
          endMs: Number(span.endTimeUnixNano) / 1e6,
          status: status.code ?? 0,
          statusMessage: status.message ?? "",
          attributes: plain(span.attributes as readonly KeyValue[]),
          resource: plain(resource.attributes),
        };
      }),
    ),
  );
}

function plain(attributes: readonly KeyValue[]): Readonly<Record<string, unknown>> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, unwrapped(value)]));
}

/** The value of an AnyValue, which says its type by the name of its one field. */
function unwrapped(value: unknown): unknown {
  const [[type, inner] = ["", null]] = Object.entries(value as object);
  if (type === "arrayValue") return ((inner as { values?: unknown[] }).values ?? []).map(unwrapped);
  return type === "intValue" ? Number(inner) : inner;
}
