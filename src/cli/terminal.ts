// The terminal as commands see it, when there is one: its size, its keys, and whether it has colours.

import type { Environment } from "../config/substitute.ts";

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** What standard output, and standard input for keys, are connected to. */
export interface Terminal {
  /** Of the terminal that standard output is; null when it is none. */
  size(): TerminalSize | null;
  /** Whether standard input is a terminal. */
  hasKeys(): boolean;
  /** Text for standard output as it is, control characters and all. */
  write(text: string): void;
  onResize(handler: () => void): void;
  /** From now on keys come as they are pressed, unseen, and Ctrl-C as one of them (raw mode). To be repeated after a stop (SIGCONT). */
  readKeys(handler: (keys: string) => void): void;
  /** Standard input is as it was before `readKeys`. Harmless when repeated. */
  restoreKeys(): void;
}

/** Whether the cursor of the terminal can be moved. One that says nothing of itself is taken for one that can. */
export function canMoveCursor(environment: Environment): boolean {
  return environment.TERM !== "dumb";
}

/** Whether colours are wanted (no-color.org). */
export function hasColours(environment: Environment): boolean {
  return (environment.NO_COLOR ?? "") === "" && canMoveCursor(environment);
}

/** Columns that lines may have: of a terminal, or without limit when a program reads them. */
export function outputColumns(terminal: Pick<Terminal, "size">): number {
  return terminal.size()?.columns ?? Number.POSITIVE_INFINITY;
}
