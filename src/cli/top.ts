// `bunnel top`: what the daemon does, live. This file reads, listens to keys and draws; what is drawn is top/screen.ts.

import { type Command, InvalidArgumentError } from "commander";
import { formatAddress } from "../base/address.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type AskIo, type AskOptions, ask, type Told, withAskOptions } from "./ask.ts";
import { closesIn } from "./closes.ts";
import { connectionsIn, withQuery } from "./connections.ts";
import { printable } from "./printable.ts";
import { isStatus } from "./status.ts";
import { canMoveCursor, hasColours, type Terminal, type TerminalSize } from "./terminal.ts";
import { afterKey, type Choice, type Extent, filterOf, firstChoice, keysOf } from "./top/keys.ts";
import { ENTER, LEAVE, Painter } from "./top/paint.ts";
import type { Reading } from "./top/reading.ts";
import { topScreen } from "./top/screen.ts";
import { VIEW_NAMES, VIEWS, type ViewName } from "./top/views.ts";

/** What `top` may touch. */
export interface TopIo extends AskIo {
  readonly terminal: Terminal;
  readonly runtime: Pick<Runtime, "http" | "preciseNowMs">;
  onSignal(name: "SIGINT" | "SIGTERM" | "SIGHUP" | "SIGCONT", handler: () => void): void;
  onDefect(handler: (thrown: unknown) => void): void;
}

export interface TopOptions extends AskOptions {
  /** Default: listeners. */
  readonly view?: ViewName;
  /** One picture, and no keys. */
  readonly once?: boolean;
}

const INTERVAL_MS = 1000;
const TIMEOUT_MS = 5000;
/** Connections that are read at each reading: enough for any screen, and no burden for the daemon. */
const MOST_CONNECTIONS = 500;
const MOST_CLOSES = 200;
/** Of a picture that no terminal shows. */
const DEFAULT_COLUMNS = 80;

/** Exit code: 0, 1 nobody answered at the start, 2 usage, 78 the config does not say where to ask. */
export async function top(io: TopIo, options: TopOptions): Promise<number> {
  const choice = firstChoice(options.view ?? "listeners");
  const source = new Source(io, options);
  const first = await source.read(choice);
  if (typeof first === "number") {
    for (const line of source.troubles) io.err(line);
    return first;
  }
  const { terminal, environment } = io;
  const isLive = options.once !== true && terminal.size() !== null && terminal.hasKeys() && canMoveCursor(environment);
  if (isLive) return await new Live(io, source, choice, first).run();

  await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  const second = await source.read(choice);
  const [before, now] = typeof second === "number" ? [null, first] : [first, second];
  const columns = terminal.size()?.columns ?? (Number(environment.COLUMNS) || DEFAULT_COLUMNS);
  const size = { columns, rows: Number.POSITIVE_INFINITY };
  const scene = { now, before, address: source.address, trouble: source.trouble, choice, size };
  for (const { text } of topScreen(scene).lines) io.out(text.trimEnd());
  return 0;
}

/** Asks the daemon, and keeps what it met with. */
class Source {
  readonly #io: TopIo;
  readonly #options: TopOptions;
  /** What the last reading had to say when it failed. */
  troubles: string[] = [];
  address = "";

  constructor(io: TopIo, options: TopOptions) {
    this.#options = options;
    const texts = new Map<string, string>();
    this.#io = {
      ...io,
      err: (line) => void this.troubles.push(line),
      // Where the daemon is does not change while its config is being edited.
      files: {
        ...io.files,
        readText: (path) => {
          const text = texts.get(path) ?? io.files.readText(path);
          if (path === options.config) texts.set(path, text);
          return text;
        },
      },
    };
  }

  get trouble(): string {
    return this.troubles.length === 0 ? "" : `NO ANSWER, retrying: ${this.troubles.join("; ")}`;
  }

  /** The status, and the list that is looked at. A number is an exit code; `troubles` says why. */
  async read(choice: Choice): Promise<Reading | number> {
    this.troubles = [];
    const told = await this.#ask("/api/v1/status");
    if (typeof told === "number") return told;
    this.address = formatAddress(told.address);
    const status = told.json;
    if (!isStatus(status)) {
      this.troubles = [`the daemon at ${this.address} is of a version whose status this one cannot read`];
      return 1;
    }
    const reading = { status, connections: [], matching: 0, closes: [], atMs: this.#io.runtime.preciseNowMs() };
    const { list } = VIEWS[choice.view];
    if (list === null) return reading;
    const text = filterOf(choice);
    const more = await this.#ask(
      list === "connections"
        ? withQuery("/api/v1/connections", { text, limit: String(MOST_CONNECTIONS) })
        : withQuery("/api/v1/closes", { failed: "true", text, limit: String(MOST_CLOSES) }),
    );
    if (typeof more === "number") return more;
    if (list === "closes") return { ...reading, closes: closesIn(more.json) };
    const { rows, matching } = connectionsIn(more.json);
    return { ...reading, connections: rows, matching };
  }

  #ask(path: string): Promise<Told | number> {
    return ask(this.#io, this.#options, { method: "GET", path, timeoutMs: TIMEOUT_MS });
  }
}

/** The screen, from when it is taken until it is given back. */
class Live {
  readonly #io: TopIo;
  readonly #source: Source;
  readonly #painter: Painter;
  readonly #done = Promise.withResolvers<number>();
  #choice: Choice;
  #now: Reading;
  #before: Reading | null = null;
  #extent: Extent = { rows: 0, page: 0 };
  #hasEnded = false;
  /** Ends the wait for the next reading. */
  #wake: () => void = () => undefined;

  constructor(io: TopIo, source: Source, choice: Choice, now: Reading) {
    this.#io = io;
    this.#source = source;
    this.#choice = choice;
    this.#now = now;
    this.#painter = new Painter(hasColours(io.environment));
  }

  /** Until a key, a signal or a defect ends it. The terminal is as it was then. */
  async run(): Promise<number> {
    const { terminal, onSignal, onDefect } = this.#io;
    let defect: unknown;
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) onSignal(name, () => this.#end(0));
    const fail = (thrown: unknown): void => {
      defect = thrown;
      this.#end(1);
    };
    onDefect(fail);
    terminal.write(ENTER);
    try {
      const readKeys = (): void => terminal.readKeys((sent) => this.#press(sent));
      readKeys();
      terminal.onResize(() => this.#draw());
      // Who stopped us has had the terminal meanwhile.
      onSignal("SIGCONT", () => {
        readKeys();
        terminal.write(ENTER);
        this.#drawAll();
      });
      this.#draw();
      this.#follow().catch(fail);
      return await this.#done.promise;
    } finally {
      this.#hasEnded = true;
      terminal.restoreKeys();
      terminal.write(LEAVE);
      if (defect !== undefined) for (const line of storyOf(defect).split("\n")) this.#io.err(printable(line));
    }
  }

  #end(exitCode: number): void {
    this.#done.resolve(exitCode);
    this.#hasEnded = true;
    this.#wake();
  }

  async #follow(): Promise<void> {
    while (!this.#hasEnded) {
      await this.#wait(INTERVAL_MS);
      if (this.#hasEnded || this.#choice.isPaused) continue;
      const { view } = this.#choice;
      const reading = await this.#source.read(this.#choice);
      if (typeof reading !== "number") {
        // The same moment again, with another list, is no measure of anything.
        const isSoon = reading.atMs - this.#now.atMs < INTERVAL_MS / 2;
        if (!isSoon) this.#before = this.#now;
        this.#now = reading;
      }
      // What was read is of a view that was left meanwhile: the next reading is due now.
      if (view !== this.#choice.view) this.#wake();
      if (!this.#hasEnded) this.#draw();
    }
  }

  #wait(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    this.#wake = () => {
      clearTimeout(timer);
      resolve();
    };
    return promise;
  }

  #press(sent: string): void {
    for (const key of keysOf(sent)) {
      if (key === "ctrl-l") {
        this.#drawAll();
        continue;
      }
      const before = this.#choice;
      const after = afterKey(before, key, this.#extent);
      if (after === null) {
        this.#end(0);
        return;
      }
      this.#choice = after;
      const isOther = after.view !== before.view || filterOf(after) !== filterOf(before);
      if (isOther && VIEWS[after.view].list !== null) this.#wake();
    }
    this.#draw();
  }

  #drawAll(): void {
    this.#painter.forget();
    this.#draw();
  }

  #draw(): void {
    const size = this.#size();
    const { address, trouble } = this.#source;
    const scene = { now: this.#now, before: this.#before, address, trouble, choice: this.#choice, size };
    const { lines, extent } = topScreen(scene);
    this.#extent = extent;
    const text = this.#painter.draw(lines, size);
    if (text !== "") this.#io.terminal.write(text);
  }

  /** A terminal that has just been opened may not know it yet. */
  #size(): TerminalSize {
    const size = this.#io.terminal.size();
    return { columns: size?.columns || DEFAULT_COLUMNS, rows: size?.rows || 24 };
  }
}

function storyOf(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}

function parseView(text: string): ViewName {
  const view = VIEW_NAMES.find((name) => name === text);
  if (view === undefined) throw new InvalidArgumentError(`There are ${VIEW_NAMES.join(", ")}.`);
  return view;
}

const EXAMPLES = `
Examples:
  bunnel top -c edge.yaml
  bunnel top --view failures            who was refused lately, and why
  bunnel top --once --view endpoints    one picture, for a script or a report

Keys are told by ?. Where there is no terminal it prints one picture and ends. NO_COLOR=1 takes the colours away.`;

/** Puts `top` under `program`; `finish` gets its exit code. */
export function registerTop(program: Command, io: TopIo, finish: (exitCode: number) => void): void {
  withAskOptions(program.command("top"))
    .description(
      "show live what the running daemon does: listeners, backends, endpoints, connections, failures, workers",
    )
    .option("--view <name>", `what is shown first: ${VIEW_NAMES.join(", ")} (default: listeners)`, parseView)
    .option("--once", "print one picture, with the rates of one second, and end")
    .addHelpText("after", EXAMPLES)
    .action(async (options: TopOptions) => finish(await top(io, options)));
}
