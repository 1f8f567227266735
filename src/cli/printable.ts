// Text of strangers on a terminal: what a client wrote into its SNI or certificate must not move the cursor, change colours or turn what follows
// around. And how wide a text is there, so that columns stand under each other.

/** Control characters, the unseen ones that change direction or join, lone surrogates, what is not assigned, line and paragraph ends. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;
const UNPRINTABLE_BUT_NEWLINE = /(?!\n)[\p{C}\p{Zl}\p{Zp}]/gu;
const MARK = /^\p{M}$/u;
/** Those that terminals draw two columns wide (Unicode, East Asian Width W and F), by the blocks that hold them. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\u4dbf\u4e00-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]$/u;

/** The text with nothing in it that a terminal would obey: such characters become `\u{1b}`. Of one that is printable nothing changes. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}

/** JSON of a value, on as many lines as `indent` makes it, that a terminal obeys as little. Parsed it is the same. */
export function printableJson(value: unknown, indent = 0): string {
  // JSON itself escapes what is below U+0020 only. In its text they stand within strings alone.
  return JSON.stringify(value, null, indent).replace(UNPRINTABLE_BUT_NEWLINE, (character) =>
    Array.from({ length: character.length }, (_, unit) => character.charCodeAt(unit))
      .map((code) => `\\u${code.toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

/** Columns that a printable text takes. */
export function columnsOf(text: string): number {
  // Nearly all there is.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let columns = 0;
  for (const character of text) columns += widthOf(character);
  return columns;
}

/** The text in so many columns at most. What is left out, at the end or (`keep: "end"`) at the start, is `…`. */
export function clipped(text: string, columns: number, keep: "start" | "end" = "start"): string {
  if (columnsOf(text) <= columns) return text;
  const characters = keep === "start" ? [...text] : [...text].reverse();
  const kept: string[] = [];
  let left = columns - 1;
  for (const character of characters) {
    left -= widthOf(character);
    if (left < 0) break;
    kept.push(character);
  }
  if (columns < 1) return "";
  return keep === "start" ? `${kept.join("")}…` : `…${kept.reverse().join("")}`;
}

/** The text on lines of so many columns, broken between words; a word that is longer than a line stays whole. Further lines begin with `indent`. */
export function folded(text: string, width: number, indent = "    "): readonly string[] {
  if (columnsOf(text) <= width) return [text];
  const lines: string[] = [];
  let current = "";
  for (const word of text.match(/ *[^ ]+/g) ?? []) {
    if (current !== "" && columnsOf(current + word) > width) {
      lines.push(current);
      current = indent + word.trimStart();
    } else current += word;
  }
  return [...lines, current];
}

function widthOf(character: string): number {
  if (MARK.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}
