// What is wrong with a config file, and where. A problem is found by its path in the config (`listeners[0].address`);
// the file that it was read from says at which line and column that is.

/** Where in the config: keys of maps and indexes of lists, from the root. */
export type Path = readonly (string | number)[];

/** One thing to mend. */
export interface Problem {
  readonly path: Path;
  /** What is wrong, what is allowed, and the nearest known name where one is near. */
  readonly message: string;
  /** Whether the key is at fault (an unknown or repeated one) and not its value: the key is what is pointed at. */
  readonly atKey?: boolean;
}

/** A problem and its place; line and column count from 1, and are 0 when the file as a whole is meant. */
export interface PlacedProblem extends Problem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** `FILE:LINE:COL: path.to.field: message`, as SPEC.md fixes it; without what is not known. */
export function formatProblem(problem: PlacedProblem): string {
  const place = problem.line === 0 ? problem.file : `${problem.file}:${problem.line}:${problem.column}`;
  const path = formatPath(problem.path);
  return path === "" ? `${place}: ${problem.message}` : `${place}: ${path}: ${problem.message}`;
}

/** `listeners[0].tls.min_version`; "" for the root. */
export function formatPath(path: Path): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else text += text === "" ? step : `.${step}`;
  }
  return text;
}

/** In the order in which a reader of the file meets them, each one once. */
export function sortProblems(problems: readonly PlacedProblem[]): PlacedProblem[] {
  const seen = new Set<string>();
  const once = problems.filter((problem) => {
    const text = formatProblem(problem);
    if (seen.has(text)) return false;
    seen.add(text);
    return true;
  });
  return once.sort((a, b) => a.line - b.line || a.column - b.column);
}

/** Whether two paths are the same place. */
export function samePath(a: Path, b: Path): boolean {
  return a.length === b.length && a.every((step, index) => step === b[index]);
}
