// Reads plain values as a Config and says everything that is wrong with their shape. What is sound is kept even when
// something else is not, so that the rules of rules.ts can be tried on the rest and an operator sees all problems at
// once.

import { z } from "zod";
import { didYouMean, nearestName } from "./nearest.ts";
import { type Path, type Problem, samePath } from "./problems.ts";
import { type Config, configSchema } from "./schema.ts";
import type { PlainValue } from "./yaml.ts";

export interface ShapeRead {
  /** What is left of the config without its broken parts; null when too little is. */
  readonly config: Config | null;
  readonly problems: readonly Problem[];
  /** The place in what was written of a place in `config`, whose lists may be shorter. */
  originalPath(path: Path): Path;
}

/** Stands in lists for an entry that was taken out, so that the others keep their places. */
const TAKEN_OUT = Symbol("taken out");
type Holed = Exclude<PlainValue, object> | typeof TAKEN_OUT | Holed[] | { [key: string]: Holed };
/** Taking out a broken field can break the one around it; nothing is deeper than this. */
const MOST_ROUNDS = 12;

/** Reads `value` as a Config. Changes `value`. */
export function readShape(value: PlainValue): ShapeRead {
  const tree: Holed = value;
  const originalPath = (path: Path): Path => originalOf(tree, path);
  const first = configSchema.safeParse(value, { error: describeIssue });
  if (first.success) return { config: first.data, problems: [], originalPath: (path) => path };
  const problems = first.error.issues.flatMap((issue) => problemsOf(issue, value));
  let issues: readonly z.core.$ZodIssue[] = first.error.issues;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const paths = issues.flatMap((issue) => faultyPaths(issue).map((path) => originalOf(tree, path)));
    if (paths.some((path) => !takeOut(tree, path))) break;
    const next = configSchema.safeParse(withoutHoles(tree));
    if (next.success) return { config: next.data, problems: withoutEchoes(problems), originalPath };
    issues = next.error.issues;
  }
  return { config: null, problems: withoutEchoes(problems), originalPath };
}

/** What is wrong, for one issue of zod's. Messages that the schema brings itself take precedence over this. */
function describeIssue(issue: z.core.$ZodRawIssue): string {
  if (issue.code === "invalid_type") {
    const expected = EXPECTED[String(issue.expected)] ?? String(issue.expected);
    const allowed = allowedBy(issue.inst);
    if (issue.input === undefined) return `is missing; expected ${allowed ?? expected}`;
    if (issue.input === null) return `is empty; expected ${allowed ?? expected}`;
    return `expected ${expected}, found ${show(issue.input)}${hint(issue)}`;
  }
  if (issue.code === "invalid_value") {
    const { values } = issue;
    const allowed = values.map((value) =>
      typeof value === "string" && /^[\d.]+$/.test(value) ? `"${value}"` : String(value),
    );
    if (issue.input === undefined) return `is missing; allowed: ${allowed.join(", ")}`;
    const later = metaList(issue.inst, "later");
    if (later.includes(String(issue.input)))
      return `${show(issue.input)} is not in this version yet; allowed: ${allowed.join(", ")}`;
    const near = typeof issue.input === "string" ? didYouMean(issue.input, values.map(String)) : "";
    const quotes = typeof issue.input === "number" ? ": put it in quotes" : "";
    return `${show(issue.input)} is not allowed; allowed: ${allowed.join(", ")}${near}${quotes}`;
  }
  if (issue.code === "invalid_union") return EACH_WAY_FAILED;
  return issue.message ?? "is not allowed";
}

/** Of a union that brings no message of its own: what is shown is made of its parts. */
const EACH_WAY_FAILED = "is not allowed";

const EXPECTED: Readonly<Record<string, string>> = {
  string: "text",
  int: "a whole number",
  number: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a map of fields",
  record: "a map of names",
};

function hint({ expected, input, inst }: z.core.$ZodRawIssue & { readonly expected: unknown }): string {
  if (expected === "array" && typeof input === "string") return `: write [${input}]`;
  if (expected !== "string" || (typeof input !== "number" && typeof input !== "boolean")) return "";
  if (metaOf(inst).kind === "duration") return ": add a unit, such as 10s";
  const allowed = allowedBy(inst);
  return allowed === null ? ": put it in quotes" : `; allowed: ${allowed}`;
}

function problemsOf(issue: z.core.$ZodIssue, value: PlainValue): Problem[] {
  const path = issue.path.map((step) => (typeof step === "number" ? step : String(step)));
  if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownKey(path, key));
  if (issue.code === "invalid_key") return [{ path, message: issue.issues[0]?.message ?? issue.message, atKey: true }];
  if (issue.code !== "invalid_union" || issue.message !== EACH_WAY_FAILED) return [{ path, message: issue.message }];
  // Each way that was open failed. The one that at least is of the right kind says what was meant.
  const meant = issue.errors.find((errors) =>
    errors.some((inner) => inner.path.length > 0 || inner.code !== "invalid_type"),
  );
  if (meant === undefined) {
    const expected = issue.errors.map((errors) => expectedBy(errors[0])).join(" or ");
    return [{ path, message: `expected ${expected}, found ${show(valueAt(value, path))}` }];
  }
  return meant.flatMap((inner) => problemsOf({ ...inner, path: [...path, ...inner.path] }, value));
}

function expectedBy(issue: z.core.$ZodIssue | undefined): string {
  return issue?.code === "invalid_type" ? (EXPECTED[issue.expected] ?? issue.expected) : "another value";
}

function unknownKey(path: Path, key: string): Problem {
  const schema = objectAt(configSchema, path);
  const known = schema === null ? [] : Object.keys(schema.shape);
  const message = metaList(schema, "later").includes(key)
    ? "is not in this version yet"
    : `is not a known field${didYouMean(key, known) || `; known here: ${known.join(", ")}`}`;
  return { path: [...path, key], message, atKey: true };
}

/** A field that is missing because its name is misspelt is one problem, not two. */
function withoutEchoes(problems: readonly Problem[]): Problem[] {
  return problems.filter((problem) => {
    const missing = problem.path.at(-1);
    if (typeof missing !== "string" || !problem.message.startsWith("is missing")) return true;
    const around = problem.path.slice(0, -1);
    return !problems.some((other) => {
      const key = other.path.at(-1);
      const sibling = other.atKey === true && samePath(other.path.slice(0, -1), around);
      return sibling && typeof key === "string" && nearestName(key, [missing]) === missing;
    });
  });
}

function faultyPaths(issue: z.core.$ZodIssue): Path[] {
  const path = issue.path.map((step) => (typeof step === "number" ? step : String(step)));
  return issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...path, key]) : [path];
}

/** Takes the value at `path` out, or what is around it when it is not there. False when nothing would be left. */
function takeOut(tree: Holed, path: Path): boolean {
  for (let length = path.length; length > 0; length--) {
    const parent = valueAt(tree, path.slice(0, length - 1));
    const step = path[length - 1];
    if (Array.isArray(parent) && typeof step === "number" && step in parent) {
      parent[step] = TAKEN_OUT;
      return true;
    }
    const substitute = substituteAt(path.slice(0, length));
    if (isMap(parent) && typeof step === "string" && substitute !== null) {
      parent[step] = substitute;
      return true;
    }
    if (isMap(parent) && typeof step === "string" && Object.hasOwn(parent, step)) {
      delete parent[step];
      return true;
    }
    // It was taken out already, for another of its faults.
    if (parent === TAKEN_OUT || parent === undefined) return true;
  }
  return false;
}

/**
 * A sound value in place of a broken one, for the fields that a map cannot do without: if the map were taken out, what the rules have to
 * say about the rest of it would be lost. What they say of the substitute itself is dropped as doubtful. Null for other fields.
 */
function substituteAt(path: Path): string | null {
  const step = path.at(-1);
  if (step === "name") return `unnamed-${path.filter((part) => typeof part === "number").join("-")}`;
  if (path[0] !== "listeners") return null;
  if (step === "address" && path.length === 3) return "127.0.0.1:1";
  if (step === "tls" && path[2] === "routes" && path.length === 5) return "passthrough";
  return null;
}

function withoutHoles(tree: Holed): unknown {
  if (Array.isArray(tree)) return tree.filter((entry) => entry !== TAKEN_OUT).map(withoutHoles);
  if (!isMap(tree)) return tree;
  return Object.fromEntries(Object.entries(tree).map(([key, value]) => [key, withoutHoles(value)]));
}

function originalOf(tree: Holed, path: Path): Path {
  const original: (string | number)[] = [];
  let node: Holed | undefined = tree;
  for (const step of path) {
    let place: string | number = step;
    if (Array.isArray(node) && typeof step === "number") {
      const kept = [...node.keys()].filter((index) => (node as Holed[])[index] !== TAKEN_OUT);
      place = kept[step] ?? step;
    }
    original.push(place);
    node = valueAt(node, [place]);
  }
  return original;
}

function valueAt(tree: Holed | undefined, path: Path): Holed | undefined {
  let node = tree;
  for (const step of path) {
    if (Array.isArray(node) && typeof step === "number") node = node[step];
    else if (isMap(node)) node = Object.hasOwn(node, step) ? node[step] : undefined;
    else return node === TAKEN_OUT ? TAKEN_OUT : undefined;
  }
  return node;
}

function isMap(node: Holed | undefined): node is { [key: string]: Holed } {
  return typeof node === "object" && node !== null && !Array.isArray(node);
}

/** The object schema that judges what is at `path`. */
function objectAt(schema: unknown, path: Path): z.ZodObject | null {
  let at = unwrapped(schema);
  for (const step of path) {
    if (at instanceof z.ZodObject) at = unwrapped(at.shape[step]);
    else if (at instanceof z.ZodArray) at = unwrapped(at.element);
    else if (at instanceof z.ZodRecord) at = unwrapped(at.valueType);
    else return null;
  }
  return at instanceof z.ZodObject ? at : null;
}

function unwrapped(schema: unknown): unknown {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault)
    return unwrapped(schema.unwrap());
  if (schema instanceof z.ZodUnion)
    return schema.options.map(unwrapped).find((option) => option instanceof z.ZodObject);
  return schema;
}

function allowedBy(schema: unknown): string | null {
  const allowed = metaOf(schema).allowed;
  return typeof allowed === "string" ? allowed : null;
}

function metaList(schema: unknown, key: string): string[] {
  const list = metaOf(schema)[key];
  return Array.isArray(list) ? list.map(String) : [];
}

function metaOf(schema: unknown): Readonly<Record<string, unknown>> {
  return schema instanceof z.ZodType ? (schema.meta() ?? {}) : {};
}

function show(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "a map";
  return typeof value === "string" ? `"${value}"` : String(value);
}
