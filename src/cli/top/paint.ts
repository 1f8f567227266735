// From lines to terminal control sequences (ECMA-48, xterm's private modes): only what has changed is drawn, so that nothing flickers.

import { columnsOf } from "../printable.ts";
import type { TerminalSize } from "../terminal.ts";
import type { Line } from "./screen.ts";
import type { Style } from "./views.ts";

/** The alternate screen, no cursor, no wrapping of a line that is too long; empty. */
export const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/** All of that as it was. */
export const LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

const IN_COLOUR: Readonly<Record<Style, string>> = {
  plain: "",
  strong: "\x1b[1m",
  bad: "\x1b[1;31m",
  warn: "\x1b[33m",
  dim: "\x1b[2m",
  head: "\x1b[7m",
};
const WITHOUT_COLOUR: Readonly<Record<Style, string>> = { ...IN_COLOUR, bad: "\x1b[1m", warn: "" };

/** Draws pictures over one another. */
export class Painter {
  readonly #styles: Readonly<Record<Style, string>>;
  #drawn: readonly Line[] = [];
  #size: TerminalSize = { columns: 0, rows: 0 };

  constructor(hasColours: boolean) {
    this.#styles = hasColours ? IN_COLOUR : WITHOUT_COLOUR;
  }

  /** The next picture is drawn wholly, whatever is on the screen. */
  forget(): void {
    this.#size = { columns: 0, rows: 0 };
  }

  /** What to write so that the screen shows these lines; "" when it does. */
  draw(lines: readonly Line[], size: TerminalSize): string {
    const isOther = size.columns !== this.#size.columns || size.rows !== this.#size.rows;
    if (isOther) this.#drawn = [];
    let text = isOther ? "\x1b[2J" : "";
    for (let row = 0; row < Math.max(lines.length, this.#drawn.length); row++) {
      const [line, drawn] = [lines[row], this.#drawn[row]];
      if (line?.text === drawn?.text && line?.style === drawn?.style) continue;
      text += `\x1b[${row + 1};1H${line === undefined ? "" : this.#styled(line)}`;
      // At the end of a full line the cursor stands on its last character.
      if (line === undefined || columnsOf(line.text) < size.columns) text += "\x1b[K";
    }
    this.#drawn = lines;
    this.#size = size;
    // Shown at once by terminals that know how (synchronized output).
    return text === "" ? "" : `\x1b[?2026h${text}\x1b[?2026l`;
  }

  #styled({ text, style }: Line): string {
    const begin = this.#styles[style];
    return begin === "" ? text : `${begin}${text}\x1b[0m`;
  }
}
