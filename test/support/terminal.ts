// biome-ignore-all lint/suspicious/noControlCharactersInRegex: this is what terminals are told with
// A pseudo-terminal with a program in it, and what a person would see on its screen: enough of a terminal for what `top` writes, and strict, so that
// a sequence which it does not know fails the test.

import { eventually } from "./eventually.ts";

export interface TerminalOptions {
  readonly columns: number;
  readonly rows: number;
  /** Beside the environment of the test. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** A running program and its terminal. To be declared with `await using`: the program is killed when its scope ends. */
export class TerminalProgram implements AsyncDisposable {
  readonly screen: Screen;
  /** All that it has written. */
  written = "";
  readonly #terminal: Bun.Terminal;
  readonly #process: Bun.Subprocess;
  /** What the kernel does with keys, as it was before. */
  readonly #localFlags: number;

  constructor(command: readonly string[], { columns, rows, env = {} }: TerminalOptions) {
    this.screen = new Screen(columns, rows);
    const decoder = new TextDecoder();
    // Not a terminal made before: the program would not be controlled by it, and be told neither of its size nor of its end.
    this.#process = Bun.spawn([...command], {
      env: { ...process.env, TERM: "xterm-256color", NO_COLOR: undefined, ...env },
      terminal: {
        cols: columns,
        rows,
        data: (_, bytes) => {
          const text = decoder.decode(bytes, { stream: true });
          this.written += text;
          this.screen.write(text);
        },
      },
    });
    const { terminal } = this.#process;
    if (terminal === undefined) throw new Error("it has no terminal");
    this.#terminal = terminal;
    this.#localFlags = terminal.localFlags;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Whether keys are read singly and unseen now. */
  get isRaw(): boolean {
    return this.#terminal.localFlags !== this.#localFlags;
  }

  /** Has the kernel treat keys as before, as a shell does that takes the terminal. */
  takeKeys(): void {
    this.#terminal.localFlags = this.#localFlags;
  }

  press(keys: string): void {
    this.#terminal.write(keys);
  }

  resize(columns: number, rows: number): void {
    this.screen.resize(columns, rows);
    this.#terminal.resize(columns, rows);
  }

  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  /** Waits until the screen is as it should be. */
  async shows(what: RegExp, patienceMs?: number): Promise<string> {
    await eventually(
      () => `the screen shows ${what}:\n${this.screen.text}\n${JSON.stringify(this.written.slice(-2000))}`,
      () => what.test(this.screen.text),
      patienceMs,
    );
    return this.screen.text;
  }

  /** Its exit code, once it has ended. */
  async ended(): Promise<number> {
    await eventually(
      () => `it ended:\n${this.screen.text}`,
      () => this.#process.exitCode !== null || this.#process.signalCode !== null,
    );
    return this.#process.exitCode ?? -1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null) this.#process.kill("SIGKILL");
    await this.#process.exited;
    this.#terminal.close();
  }
}

/** What is on a screen after what was written to it. */
class Screen {
  columns: number;
  rows: number;
  isAlternate = false;
  hasCursor = true;
  wraps = true;
  /** Escape sequences beyond colours that are on now, in SGR terms; "" = none. */
  style = "";
  #cells: string[][];
  #row = 0;
  #column = 0;
  #rest = "";

  constructor(columns: number, rows: number) {
    this.columns = columns;
    this.rows = rows;
    this.#cells = blank(columns, rows);
  }

  get text(): string {
    return this.#cells.map((row) => row.join("").trimEnd()).join("\n");
  }

  resize(columns: number, rows: number): void {
    this.columns = columns;
    this.rows = rows;
    const old = this.#cells;
    this.#cells = blank(columns, rows).map((row, y) => row.map((cell, x) => old[y]?.[x] ?? cell));
  }

  write(text: string): void {
    // A sequence may come in two parts.
    const all = this.#rest + text;
    const open = all.lastIndexOf("\x1b");
    const isWhole = open < 0 || /^\x1b\[[?\d;]*[A-Za-z]/.test(all.slice(open));
    const known = isWhole ? all : all.slice(0, open);
    this.#rest = isWhole ? "" : all.slice(open);
    for (const [part, parameters, final] of known.matchAll(/\x1b\[([?\d;]*)([A-Za-z])|./gsu))
      if (final === undefined) this.#put(part);
      else this.#obey(parameters ?? "", final);
  }

  #put(character: string): void {
    if (character === "\r") this.#column = 0;
    else if (character === "\n") this.#feed();
    else if (/\p{C}/u.test(character)) throw new Error(`a control character: ${JSON.stringify(character)}`);
    else {
      const row = this.#cells[this.#row];
      if (this.#column >= this.columns) {
        if (!this.wraps) throw new Error(`a line is too long: ${row?.join("")}`);
        this.#column = 0;
        this.#feed();
      }
      const target = this.#cells[this.#row];
      if (target !== undefined) target[this.#column] = character;
      this.#column++;
    }
  }

  #feed(): void {
    if (this.#row < this.rows - 1) this.#row++;
    else this.#cells = [...this.#cells.slice(1), ...blank(this.columns, 1)];
  }

  #obey(parameters: string, final: string): void {
    const sequence = parameters + final;
    if (final === "H") {
      const [row = 1, column = 1] = parameters.split(";").map(Number);
      this.#row = Math.min(this.rows, row) - 1;
      this.#column = column - 1;
      if (row > this.rows) throw new Error(`a row beyond the screen: ${row}`);
    } else if (sequence === "2J") this.#cells = blank(this.columns, this.rows);
    else if (sequence === "K") this.#cells[this.#row]?.fill(" ", this.#column);
    else if (final === "m") this.style = parameters === "0" ? "" : parameters;
    else if (parameters === "?1049") {
      this.isAlternate = final === "h";
      this.#cells = blank(this.columns, this.rows);
      [this.#row, this.#column] = [0, 0];
    } else if (parameters === "?25") this.hasCursor = final === "h";
    else if (parameters === "?7") this.wraps = final === "h";
    else if (parameters !== "?2026") throw new Error(`an unknown sequence: ${sequence}`);
  }
}

function blank(columns: number, rows: number): string[][] {
  return Array.from({ length: rows }, () => Array.from({ length: columns }, () => " "));
}
