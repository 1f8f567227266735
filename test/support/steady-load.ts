// A steady load and the endpoints that it reaches, each in a process of its own, as a test sees them: start, wait until the streams are there, stop, and look at
// the summary. What the load is, is in steady-load/report.ts; that it tells the truth is shown by steady-load.test.ts.

import { join } from "node:path";
import { Child } from "./child.ts";
import { eventually } from "./eventually.ts";
import type { Failure, LoadOptions, Ready, ReportLine, Summary } from "./steady-load/report.ts";

const START_MS = 20_000;
/** Longer than the generator waits for its last answers. */
const STOP_MS = 20_000;

/** A running load. To be declared with `await using`. */
export class SteadyLoad implements AsyncDisposable {
  readonly child: Child;

  /** `under`: a command to start it with, such as one that puts it into a network namespace. */
  constructor(options: LoadOptions, under: readonly string[] = []) {
    this.child = new Child([
      ...under,
      process.execPath,
      join(import.meta.dir, "steady-load/generator.ts"),
      JSON.stringify(options),
    ]);
  }

  /** What it has told so far. */
  get lines(): readonly ReportLine[] {
    const lines = this.child.stdout.split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line) as ReportLine);
  }

  get failures(): readonly Failure[] {
    return this.lines.filter((line) => line.event === "failure");
  }

  /** Once every stream has had its first echo. */
  async ready(): Promise<Ready> {
    const ready = (): Ready | undefined => this.lines.find((line) => line.event === "ready");
    return await this.child.comesTo("the load was under way", ready, START_MS);
  }

  /** Stops it in order and gives its summary. */
  async stop(): Promise<Summary> {
    this.child.endInput();
    return await this.finished();
  }

  /** Its summary, once it has ended by itself. */
  async finished(patienceMs = STOP_MS): Promise<Summary> {
    const summary = (): Summary | undefined => this.lines.find((line) => line.event === "summary");
    return await this.child.comesTo("the load gave its summary", summary, patienceMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}

/** What the endpoints have counted. */
export interface EchoCounts {
  readonly endpoints: readonly {
    readonly address: string;
    readonly open: number;
    readonly peak: number;
    readonly total: number;
  }[];
  /** The most that all had open at once. */
  readonly peakOfAll: number;
}

/** Endpoints that send everything back. To be declared with `await using`. */
export class Echoes implements AsyncDisposable {
  readonly child: Child;
  addresses: readonly string[] = [];
  #asked = 0;

  constructor(count: number) {
    this.child = new Child([process.execPath, join(import.meta.dir, "steady-load/echoes.ts"), String(count)]);
  }

  async started(): Promise<this> {
    this.addresses = (await this.#line<{ addresses: string[] }>(0)).addresses;
    return this;
  }

  async counts(): Promise<EchoCounts> {
    const line = ++this.#asked;
    this.child.write("\n");
    return await this.#line<EchoCounts>(line);
  }

  /** Connections open at each. */
  async open(): Promise<readonly number[]> {
    return (await this.counts()).endpoints.map(({ open }) => open);
  }

  #line<T>(index: number): Promise<T & object> {
    return eventually(
      () => `the endpoints answered: ${this.child.story}`,
      () => {
        const lines = this.child.stdout.split("\n").slice(0, -1);
        const line = lines[index];
        return line === undefined ? null : (JSON.parse(line) as T & object);
      },
      START_MS,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}

/** Starts so many endpoints in one process. */
export async function startEchoes(count: number): Promise<Echoes> {
  const echoes = new Echoes(count);
  try {
    return await echoes.started();
  } catch (thrown) {
    await echoes[Symbol.asyncDispose]();
    throw thrown;
  }
}
