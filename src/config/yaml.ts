// From the text of a config file to plain values, with the way back: for every value, the line and column it was
// written at. Here are also the limits on what a file may expand to, and the substitution of ${ENV_NAME}. What the
// values mean is schema.ts's.

import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  Scalar,
  type YAMLError,
} from "yaml";
import { messageOf } from "../base/errors.ts";
import { readPlainYaml } from "./plain-yaml.ts";
import type { Path, PlacedProblem, Problem } from "./problems.ts";
import { asIfWritten, type Environment, substitute } from "./substitute.ts";

/** Plain data as YAML has it; lists and maps are fresh and may be changed. */
export type PlainValue = string | number | boolean | null | PlainValue[] | { [key: string]: PlainValue };

/** Ten thousand backends fit; a file that is larger is a mistake. */
const MAX_TEXT_LENGTH = 16 * 1024 * 1024;
/** Values after aliases have been expanded. Nine aliases of nine aliases, nine deep, are 3·10⁸ ("billion laughs"). */
const MAX_VALUES = 500_000;
/** Levels of lists and maps. The deepest field of the schema is at 7. */
const MAX_DEPTH = 32;

/** What reading a file leaves in place of bytes that are no UTF-8. */
const NOT_UTF8 = "\ufffd";
/** How much of a message of the parser is shown. */
const MAX_QUOTED = 120;
/** In the parser's words, and the slip that is mostly behind it. */
const ADVICE: readonly (readonly [says: string, advice: string])[] = [
  ["keys need to be on a single line", "is there no colon after this key?"],
  ["be followed by map values", "is there no colon and blank after this key?"],
  ["compact mappings", "a line that is indented too far, or a text with a colon and a blank in it, which needs quotes"],
  ["start at the same column", "are the lines around it indented alike?"],
  ["without - indicator", "is this line indented too little?"],
];

export interface YamlRead {
  /** Null when the text is no YAML at all, or too much of it. */
  readonly value: PlainValue | null;
  readonly problems: readonly PlacedProblem[];
  readonly places: Places;
}

/** A text and what its parser knows of it. */
interface Parsed {
  /** Null when it is no YAML at all. */
  readonly document: Document.Parsed | null;
  readonly lines: LineCounter;
}

/** Finds what was written where. The text is only parsed for it once something is looked for: mostly nothing is. */
export class Places {
  /** As it is to be shown, and what relative paths in the config start from. */
  readonly file: string;
  readonly #parse: () => Parsed;
  #parsed: Parsed | null = null;

  constructor(file: string, parse: () => Parsed) {
    this.file = file;
    this.#parse = parse;
  }

  /** The problem with its place: its value, its key where `atKey`, or the nearest thing around it that was written. */
  place(problem: Problem): PlacedProblem {
    const { document } = this.#known;
    let node: Node | null = document?.contents ?? null;
    let offset = node?.range?.[0] ?? 0;
    for (const [index, step] of problem.path.entries()) {
      if (isAlias(node) && document !== null) node = node.resolve(document) ?? null;
      const last = index === problem.path.length - 1;
      if (isMap(node)) {
        const pair = node.items.find((item) => keyOf(item.key) === step);
        if (pair === undefined) break;
        const keyStart = startOf(pair.key);
        node = asNode(pair.value);
        // A list or map in block form starts at its first entry, a line below; what a reader looks for is its key.
        const atKey = (last && problem.atKey === true) || isEmpty(node) || isBlock(node);
        offset = (atKey ? keyStart : startOf(node)) ?? offset;
      } else if (isSeq(node) && typeof step === "number") {
        node = asNode(node.items[step]);
        offset = startOf(node) ?? offset;
      } else break;
    }
    return this.at(offset, problem);
  }

  /** The problem placed at a character of the text. */
  at(offset: number, problem: Problem): PlacedProblem {
    const { line, col } = this.#known.lines.linePos(offset);
    return { ...problem, file: this.file, line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  get #known(): Parsed {
    this.#parsed ??= this.#parse();
    return this.#parsed;
  }
}

/** Reads one YAML document. Never throws: everything that is wrong with the text is in `problems`, with its place. */
export function readYaml(text: string, file: string, environment: Environment): YamlRead {
  if (text.length > MAX_TEXT_LENGTH)
    return refusal(nowhere(file), `the file is longer than ${MAX_TEXT_LENGTH} characters`);
  const plain = readPlainYaml(text, environment, { values: MAX_VALUES, depth: MAX_DEPTH });
  if (plain !== null) return { value: plain, problems: [], places: new Places(file, () => parse(text)) };
  return readAnyYaml(text, file, environment);
}

/** The same without the quick way, which is for plain files only and gives up on the others. */
export function readAnyYaml(text: string, file: string, environment: Environment): YamlRead {
  const strange = text.indexOf(NOT_UTF8);
  if (strange >= 0) return notUtf8(text, file, strange);
  let parsed: Parsed & { readonly document: Document.Parsed };
  try {
    parsed = parse(text);
  } catch (error) {
    // The parser is recursive; a line of a hundred thousand brackets ends its stack.
    return refusal(nowhere(file), `this cannot be read as YAML: ${messageOf(error)}`);
  }
  const { document } = parsed;
  const places = new Places(file, () => parsed);
  // The first only: what the parser says after it has lost its way is not so, and hides the cause.
  const first = document.errors[0];
  if (first !== undefined) {
    const problem = places.at(first.pos[0], { path: [], message: explain(first) });
    return { value: null, problems: [problem], places };
  }
  const problems = document.warnings.map((warning) =>
    places.at(warning.pos[0], { path: [], message: explain(warning) }),
  );
  const reader = new PlainReader(document, places, environment);
  const value = reader.read(document.contents, [], 0);
  problems.push(...reader.problems);
  return { value: reader.tooMuch ? null : value, problems, places };
}

function parse(text: string): Parsed & { readonly document: Document.Parsed } {
  const lines = new LineCounter();
  // Keys that are written twice are found by the reader, which goes on after them.
  const options = { prettyErrors: false, strict: true, uniqueKeys: false, version: "1.2" } as const;
  const document = parseDocument(text, { lineCounter: lines, ...options });
  return { document, lines };
}

/** Turns nodes into plain values, counting what it makes. */
class PlainReader {
  readonly problems: PlacedProblem[] = [];
  /** Set when a limit was reached; what was read is not to be used then. */
  tooMuch = false;
  #values = 0;
  readonly #document: Document;
  readonly #places: Places;
  readonly #environment: Environment;

  constructor(document: Document, places: Places, environment: Environment) {
    this.#document = document;
    this.#places = places;
    this.#environment = environment;
  }

  read(node: unknown, path: Path, depth: number): PlainValue {
    if (this.tooMuch) return null;
    if (++this.#values > MAX_VALUES) return this.#refuse(path, `the file expands to more than ${MAX_VALUES} values`);
    if (depth > MAX_DEPTH) return this.#refuse(path, `lists and maps are more than ${MAX_DEPTH} deep`);
    if (isAlias(node)) {
      const target = node.resolve(this.#document);
      if (target !== undefined) return this.read(target, path, depth + 1);
      this.#report(
        path,
        `*${node.source} is an alias in YAML, and no anchor &${node.source} is before it; for a text that begins with * write "*${node.source}"`,
        node.range?.[0],
      );
      return null;
    }
    if (isScalar(node)) return this.#readScalar(node, path);
    if (isSeq(node)) return node.items.map((item, index) => this.read(item, [...path, index], depth + 1));
    if (!isMap(node)) return null;
    const map: { [key: string]: PlainValue } = {};
    for (const pair of node.items) {
      const key = keyOf(pair.key);
      if (key === null) this.#report(path, "a key must be plain text", startOf(pair.key));
      // Assigned to an object it would be lost without a word.
      else if (key === "__proto__") this.#report(path, 'nothing can be called "__proto__"', startOf(pair.key));
      else if (key === "<<")
        this.#report([...path, key], "YAML 1.2 has no merge keys: write the fields out", startOf(pair.key));
      else {
        const value = this.read(pair.value, [...path, key], depth + 1);
        if (Object.hasOwn(map, key))
          this.#report([...path, key], "is written a second time in the same map", startOf(pair.key));
        map[key] = bothMaps(map[key], value);
      }
    }
    return map;
  }

  #readScalar(node: Scalar, path: Path): PlainValue {
    const { value } = node;
    if (typeof value === "number" || typeof value === "boolean") return value;
    if (typeof value !== "string") return null;
    const { text, problem } = substitute(value, this.#environment);
    if (problem !== null) this.#report(path, problem, node.range?.[0]);
    return text !== value && node.type === Scalar.PLAIN ? asIfWritten(text) : text;
  }

  #report(path: Path, message: string, offset: number | undefined): void {
    this.problems.push(
      offset === undefined ? this.#places.place({ path, message }) : this.#places.at(offset, { path, message }),
    );
  }

  #refuse(path: Path, message: string): null {
    this.tooMuch = true;
    this.#report([], `${message} (at ${path.slice(0, 4).join(".")})`, 0);
    return null;
  }
}

/** For a text that has no places. */
function nowhere(file: string): Places {
  return new Places(file, () => ({ document: null, lines: new LineCounter() }));
}

function notUtf8(text: string, file: string, at: number): YamlRead {
  const before = text.slice(0, at);
  const place = { file, line: before.split("\n").length, column: at - before.lastIndexOf("\n") };
  const message = "this is not UTF-8, which a config has to be written in";
  return { value: null, problems: [{ ...place, path: [], message }], places: nowhere(file) };
}

function refusal(places: Places, message: string): YamlRead {
  return { value: null, problems: [places.at(0, { path: [], message })], places };
}

/** Of a key that was written twice: what refers to an entry of the first map is not wrong as well. */
function bothMaps(first: PlainValue | undefined, second: PlainValue): PlainValue {
  return isPlainMap(first) && isPlainMap(second) ? { ...first, ...second } : second;
}

function isPlainMap(value: PlainValue | undefined): value is { [key: string]: PlainValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function keyOf(key: unknown): string | null {
  if (!isScalar(key)) return null;
  const { value } = key;
  return typeof value === "string" ? value : typeof value === "number" ? String(key.source ?? value) : null;
}

function asNode(value: unknown): Node | null {
  return isAlias(value) || isScalar(value) || isMap(value) || isSeq(value) ? value : null;
}

function isEmpty(node: Node | null): boolean {
  return node === null || (isScalar(node) && node.value === null);
}

function isBlock(node: Node | null): boolean {
  return (isMap(node) || isSeq(node)) && node.flow !== true;
}

function startOf(value: unknown): number | undefined {
  return asNode(value)?.range?.[0];
}

/** The parser's messages begin with a capital; ours are clauses, and say what was probably meant. */
function explain(error: YAMLError): string {
  if (error.code === "MULTIPLE_DOCS") return "a config is one YAML document, and here a second one begins";
  // The parser quotes a token as a whole, which may be the rest of the file.
  const text = error.message.length > MAX_QUOTED ? `${error.message.slice(0, MAX_QUOTED)}…` : error.message;
  const [, advice] = ADVICE.find(([says]) => error.message.includes(says)) ?? [];
  return text.charAt(0).toLowerCase() + text.slice(1) + (advice === undefined ? "" : `; ${advice}`);
}
