// Spans on their way to a collector: how many may be, what happens to those that are too many or that nobody takes, and who is told. The SDK that makes and
// sends them (otlp.ts) is loaded only by who exports; what is written until then waits here.

import { messageOf } from "../base/errors.ts";
import { type CloseRecord, wentWell } from "./access-log.ts";
import type { Log } from "./log.ts";

/** What the config says. */
export interface SpanSettings {
  /** URL of the collector. */
  readonly endpoint: string;
  /** Secrets, as a rule: never to be shown. */
  readonly headers: Readonly<Record<string, string>>;
  /** Of connections that went well, the share that is exported; from 0 to 1. All others are. */
  readonly sample: number;
  /** PEM, of those who vouch for the collector; empty: the public authorities. */
  readonly caPem: readonly string[];
  /** What is shown, PEM; "" when nothing is. */
  readonly chainPem: string;
  readonly keyPem: string;
}

/** Where spans go, and the process that they come from. */
export interface SpanExportParts {
  readonly version: string;
  /** Unique to this process. */
  readonly instance: string;
  /** 0 = there is one. */
  readonly worker: number;
  readonly log: Pick<Log, "info" | "warn">;
  /** So many more spans that nobody has. */
  dropped(spans: number): void;
  /** Default: the SDK's, by OTLP/HTTP. */
  readonly load?: (settings: SpanSettings, parts: SpanExportParts, settled: Settled) => Promise<Exporter>;
}

/** Takes the records of connections that have ended. */
export interface SpanSink {
  write(record: CloseRecord): void;
}

/** Exports spans to one collector after the other. */
export interface SpanExports {
  /** What goes to this one from now on; null when there is none. */
  follow(settings: SpanSettings | null): SpanSink | null;
}

/** Called when `spans` spans have arrived, or have failed to: then `problem` says why. */
export type Settled = (spans: number, problem: string) => void;

/** Sends spans, in batches. */
export interface Exporter {
  add(record: CloseRecord): void;
  /** Sends what has gathered, and then no more. */
  close(): Promise<void>;
}

/** Spans that have not arrived yet: some 8 MB. */
export const MOST_UNSETTLED = 4096;
/** How long the end of an export, and so of the process, may wait for the collector. */
const FLUSH_MS = 2000;

/** Exports the connections of one process. */
export class SpanExport implements SpanSink {
  readonly #settings: SpanSettings;
  readonly #parts: SpanExportParts;
  readonly #loading: Promise<void>;
  #exporter: Exporter | null = null;
  /** Until there is an exporter. */
  #waiting: CloseRecord[] = [];
  #unsettled = 0;
  #isFailing = false;
  /** Everything has been counted: a late result of a collector that was given up is ignored. */
  #isOver = false;

  constructor(settings: SpanSettings, parts: SpanExportParts) {
    this.#settings = settings;
    this.#parts = parts;
    this.#loading = this.#load();
  }

  /** Resolves once nothing more has to be loaded. */
  get loaded(): Promise<void> {
    return this.#loading;
  }

  /** Takes a connection that has ended. Never waits. */
  write(record: CloseRecord): void {
    const { sample } = this.#settings;
    if (sample < 1 && wentWell(record) && Math.random() >= sample) return;
    if (this.#unsettled >= MOST_UNSETTLED) {
      this.#parts.dropped(1);
      return;
    }
    this.#unsettled++;
    if (this.#exporter === null) this.#waiting.push(record);
    else this.#exporter.add(record);
  }

  /** Sends what has gathered, as far as the collector takes it in time. */
  async close(): Promise<void> {
    const { promise: tooLong, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, FLUSH_MS);
    const closing = this.#loading.then(() => this.#exporter?.close());
    // What could not be sent is counted below, whatever the reason.
    await Promise.race([closing, tooLong]).catch(() => {});
    clearTimeout(timer);
    if (this.#unsettled > 0) this.#settled(this.#unsettled, "the export has ended before they had arrived");
    this.#isOver = true;
  }

  async #load(): Promise<void> {
    const { load = loadOtlp } = this.#parts;
    try {
      this.#exporter = await load(this.#settings, this.#parts, (spans, problem) => this.#settled(spans, problem));
    } catch (thrown) {
      const problem = messageOf(thrown);
      this.#exporter = { add: () => this.#settled(1, problem), close: async () => {} };
    }
    for (const record of this.#waiting) this.#exporter.add(record);
    this.#waiting = [];
  }

  #settled(spans: number, problem: string): void {
    if (this.#isOver) return;
    const { log, dropped } = this.#parts;
    this.#unsettled -= spans;
    if (problem !== "") dropped(spans);
    if (problem !== "" && !this.#isFailing)
      log.warn({ problem }, "spans are being dropped: they do not reach the collector");
    if (problem === "" && this.#isFailing) log.info("spans reach the collector again");
    this.#isFailing = problem !== "";
  }
}

/** Loads what an export needs, for a process that may soon not be allowed to read it. What fails is told by the export. */
export async function preloadSpanExport(): Promise<void> {
  await import("./otlp.ts").catch(() => {});
}

async function loadOtlp(settings: SpanSettings, parts: SpanExportParts, settled: Settled): Promise<Exporter> {
  const { createOtlpExporter } = await import("./otlp.ts");
  return createOtlpExporter(settings, parts, settled);
}
