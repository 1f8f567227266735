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
  let parsed: Parsed & { readonly document: Document.Parsed };
  try {
    parsed = parse(text);
  } catch (error) {
    // The parser is recursive; a line of a hundred thousand brackets ends its stack.
    return refusal(nowhere(file), `this cannot be read as YAML: ${messageOf(error)}`);
  }
  const { document } = parsed;
  const places = new Places(file, () => parsed);
  const problems = [...document.errors, ...document.warnings].map((error) =>
    places.at(error.pos[0], { path: [], message: explain(error) }),
  );
  // A repeated key leaves the structure readable, so that what else is wrong can be said too; other errors do not.
  if (document.errors.some((error) => error.code !== "DUPLICATE_KEY")) return { value: null, problems, places };
  const reader = new PlainReader(document, places, environment);
  const value = reader.read(document.contents, [], 0);
  problems.push(...reader.problems);
  return { value: reader.tooMuch ? null : value, problems, places };
}

function parse(text: string): Parsed & { readonly document: Document.Parsed } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, strict: true, version: "1.2" });
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
      this.#report(path, `there is no anchor &${node.source} before this alias`, node.range?.[0]);
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
      else map[key] = this.read(pair.value, [...path, key], depth + 1);
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

function refusal(places: Places, message: string): YamlRead {
  return { value: null, problems: [places.at(0, { path: [], message })], places };
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

/** The parser's messages begin with a capital; ours are clauses. */
function explain(error: YAMLError): string {
  if (error.code === "DUPLICATE_KEY") return "this key is written a second time in the same map";
  if (error.code === "MULTIPLE_DOCS") return "a config is one YAML document, and here a second one begins";
  return error.message.charAt(0).toLowerCase() + error.message.slice(1);
}
