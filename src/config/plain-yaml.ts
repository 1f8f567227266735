// A quick reader for the YAML that configs are written in: block lists and maps, lists and maps in braces on one line, scalars on one line,
// comments. If there is anything else in the file (anchors, tags, escapes, multi-line text, a repeated key, a tab …), or anything wrong, it gives up, and yaml.ts
// reads the file with the real parser, which also makes the messages and positions. test/unit/config/plain-yaml.test.ts compares the two.

import { asIfWritten, type Environment, substitute } from "./substitute.ts";
import type { PlainValue } from "./yaml.ts";

/** How much is read before it gives up. */
export interface PlainLimits {
  readonly values: number;
  /** Levels of lists and maps. */
  readonly depth: number;
}

/** Thrown and caught in this file only: at any depth, for anything that is not plain. Made once, for its stack costs more than the reading. */
const NOT_PLAIN = new Error("not plain YAML");
const UNUSUAL_CHARACTER = /[^\x20-\x7e\n]/;
/** Sticky; each is tried at one place only. */
const KEY = /[A-Za-z_][A-Za-z0-9_.-]*(?=:[ \n]|:$)/y;
const COMMENT = / *#[^\n]*/y;
/** In braces a comma or bracket ends it, and a colon before one of those would make it a key. */
const FLOW_SCALAR = /[A-Za-z0-9_./](?:[A-Za-z0-9_./@+*%-]|:(?=[A-Za-z0-9_./@+*%-]))*(?= *[,\]}])/y;
/** Up to the end of the line or a comment, without the blanks before that. A colon before a blank would make it a key. */
const BLOCK_SCALAR = /[A-Za-z0-9_./$](?:[^ :\n]|:(?![ \n]|$)| +(?![ #\n]|$))*(?= *\n| *$| +#)/y;
const DOUBLE_QUOTED = /"[^"\\\n]*"/y;
const SINGLE_QUOTED = /'[^'\n]*'/y;
const NUMBER = /^(?:0|[1-9]\d{0,14})$/;
/** Other numbers of the core schema, and its other words for null, true and false. */
const UNUSUAL_SCALAR = /^(?:(?:\.\d+|\d+\.?\d*)(?:[eE][-+]?\d+)?|0[xo].*|\.inf|\.nan|null|true|false)$/i;
const [SPACE, LINE_END, HASH, DASH] = [0x20, 0x0a, 0x23, 0x2d];
const [COMMA, COLON, OPEN_LIST, CLOSE_LIST, OPEN_MAP, CLOSE_MAP] = [0x2c, 0x3a, 0x5b, 0x5d, 0x7b, 0x7d];
const [DOUBLE_QUOTE, SINGLE_QUOTE] = [0x22, 0x27];

/** The value of the text, exactly as yaml.ts makes it; null when that is for yaml.ts to do. Never throws. */
export function readPlainYaml(text: string, environment: Environment, limits: PlainLimits): PlainValue | null {
  if (UNUSUAL_CHARACTER.test(text)) return null;
  try {
    return new PlainYaml(text, environment, limits).document();
  } catch (thrown) {
    if (thrown === NOT_PLAIN) return null;
    throw thrown;
  }
}

type PlainMap = { [key: string]: PlainValue };

class PlainYaml {
  readonly #text: string;
  readonly #environment: Environment;
  readonly #limits: PlainLimits;
  #at = 0;
  /** Blanks before the line that `#at` is in, once `#toLine` has found one; -1 at the end of the text. */
  #indent = -1;
  #values = 0;

  constructor(text: string, environment: Environment, limits: PlainLimits) {
    this.#text = text;
    this.#environment = environment;
    this.#limits = limits;
  }

  document(): PlainValue {
    this.#toLine();
    const value = this.#indent === 0 ? this.#block(0, 0) : null;
    // Also what is further in than the line before allows, at any depth: nobody has taken it.
    if (this.#at < this.#text.length) throw NOT_PLAIN;
    return value;
  }

  /** Goes to the first character of the next line that has something to read; `#at` is where a line begins. */
  #toLine(): void {
    const text = this.#text;
    for (;;) {
      const start = this.#at;
      while (text.charCodeAt(this.#at) === SPACE) this.#at++;
      if (this.#at >= text.length) {
        this.#indent = -1;
        return;
      }
      const code = text.charCodeAt(this.#at);
      if (code !== LINE_END && code !== HASH) {
        this.#indent = this.#at - start;
        return;
      }
      const end = text.indexOf("\n", this.#at);
      this.#at = end < 0 ? text.length : end + 1;
    }
  }

  /** Leaves a line of which nothing but a comment may be left. */
  #endLine(): void {
    if (this.#text.charCodeAt(this.#at) === SPACE) this.#skip(COMMENT);
    this.#blanks();
    if (this.#at < this.#text.length && this.#text.charCodeAt(this.#at) !== LINE_END) throw NOT_PLAIN;
    this.#at++;
    this.#toLine();
  }

  /** Whether only blanks and a comment are left of the line. */
  get #isLineDone(): boolean {
    const code = this.#text.charCodeAt(this.#at);
    return Number.isNaN(code) || code === LINE_END || code === HASH;
  }

  get #isEntry(): boolean {
    if (this.#text.charCodeAt(this.#at) !== DASH) return false;
    const next = this.#text.charCodeAt(this.#at + 1);
    return next === SPACE || next === LINE_END || Number.isNaN(next);
  }

  #block(indent: number, depth: number): PlainValue {
    return this.#isEntry ? this.#list(indent, depth) : this.#map(indent, depth);
  }

  #list(indent: number, depth: number): PlainValue[] {
    this.#count(depth);
    const list: PlainValue[] = [];
    while (this.#indent === indent && this.#isEntry) {
      const line = this.#at;
      this.#at++;
      this.#blanks();
      if (this.#isLineDone) list.push(this.#below(indent, depth + 1, false));
      else {
        const column = indent + this.#at - line;
        KEY.lastIndex = this.#at;
        if (KEY.test(this.#text)) {
          this.#indent = column;
          list.push(this.#map(column, depth + 1));
        } else list.push(this.#inline(depth + 1));
      }
    }
    return list;
  }

  #map(indent: number, depth: number): PlainMap {
    this.#count(depth);
    const map: PlainMap = {};
    while (this.#indent === indent) {
      if (this.#isEntry) break;
      const key = this.#key(map);
      this.#blanks();
      map[key] = this.#isLineDone ? this.#below(indent, depth + 1, true) : this.#inline(depth + 1);
    }
    return map;
  }

  /** What is on the lines below, further in; a list that belongs to a key may also be as far out as that. */
  #below(indent: number, depth: number, isOfKey: boolean): PlainValue {
    if (this.#text.charCodeAt(this.#at) === HASH) this.#skip(COMMENT);
    this.#endLine();
    if (this.#indent > indent) return this.#block(this.#indent, depth);
    if (isOfKey && this.#indent === indent && this.#isEntry) return this.#list(indent, depth);
    this.#count(depth);
    return null;
  }

  /** A value that is the rest of its line. */
  #inline(depth: number): PlainValue {
    const code = this.#text.charCodeAt(this.#at);
    const isFlow = code === OPEN_MAP || code === OPEN_LIST || code === DOUBLE_QUOTE || code === SINGLE_QUOTE;
    const value = isFlow ? this.#flow(depth) : this.#scalar(BLOCK_SCALAR, depth);
    this.#endLine();
    return value;
  }

  #flow(depth: number): PlainValue {
    const code = this.#text.charCodeAt(this.#at);
    if (code === OPEN_MAP) return this.#flowMap(depth);
    if (code === OPEN_LIST) return this.#flowList(depth);
    if (code !== DOUBLE_QUOTE && code !== SINGLE_QUOTE) return this.#scalar(FLOW_SCALAR, depth);
    this.#count(depth);
    const quoted = this.#take(code === DOUBLE_QUOTE ? DOUBLE_QUOTED : SINGLE_QUOTED);
    return this.#substituted(quoted.slice(1, -1));
  }

  #flowMap(depth: number): PlainMap {
    this.#count(depth);
    const map: PlainMap = {};
    let code = this.#afterMark();
    while (code !== CLOSE_MAP) {
      const key = this.#key(map);
      this.#blanks();
      map[key] = this.#flow(depth + 1);
      code = this.#separated(CLOSE_MAP);
    }
    this.#at++;
    return map;
  }

  #flowList(depth: number): PlainValue[] {
    this.#count(depth);
    const list: PlainValue[] = [];
    let code = this.#afterMark();
    while (code !== CLOSE_LIST) {
      list.push(this.#flow(depth + 1));
      code = this.#separated(CLOSE_LIST);
    }
    this.#at++;
    return list;
  }

  /** After a value in braces: goes past the comma, if there is one. */
  #separated(close: number): number {
    this.#blanks();
    const code = this.#text.charCodeAt(this.#at);
    if (code === close) return code;
    if (code !== COMMA) throw NOT_PLAIN;
    return this.#afterMark();
  }

  #afterMark(): number {
    this.#at++;
    this.#blanks();
    return this.#text.charCodeAt(this.#at);
  }

  /** A key that the map does not have yet, and its colon. */
  #key(map: PlainMap): string {
    const key = this.#take(KEY);
    if (Object.hasOwn(map, key) || key === "__proto__" || UNUSUAL_SCALAR.test(key)) throw NOT_PLAIN;
    if (this.#text.charCodeAt(this.#at) !== COLON) throw NOT_PLAIN;
    this.#at++;
    return key;
  }

  #scalar(pattern: RegExp, depth: number): PlainValue {
    this.#count(depth);
    const written = this.#take(pattern);
    if (NUMBER.test(written)) return Number(written);
    if (written === "true" || written === "false") return written === "true";
    if (UNUSUAL_SCALAR.test(written)) throw NOT_PLAIN;
    const text = this.#substituted(written);
    return text === written ? text : asIfWritten(text);
  }

  #substituted(written: string): string {
    if (!written.includes("$")) return written;
    const { text, problem } = substitute(written, this.#environment);
    if (problem !== null) throw NOT_PLAIN;
    return text;
  }

  #count(depth: number): void {
    if (++this.#values > this.#limits.values || depth > this.#limits.depth) throw NOT_PLAIN;
  }

  #blanks(): void {
    while (this.#text.charCodeAt(this.#at) === SPACE) this.#at++;
  }

  #skip(pattern: RegExp): void {
    pattern.lastIndex = this.#at;
    if (pattern.test(this.#text)) this.#at = pattern.lastIndex;
  }

  #take(pattern: RegExp): string {
    const start = this.#at;
    pattern.lastIndex = start;
    if (!pattern.test(this.#text)) throw NOT_PLAIN;
    this.#at = pattern.lastIndex;
    return this.#text.slice(start, this.#at);
  }
}
