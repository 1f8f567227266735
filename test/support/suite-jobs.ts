// What `npm test` runs as one `bun test` each, and in which order.

/** What one process of `bun test` is given: files and folders, from the root of the project. */
export type Job = readonly string[];

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const NO_COUNTS: Counts = { passed: 0, failed: 0, skipped: 0 };

/** Their files start few processes, and one `bun test` for all of them spares starting hundreds. */
const IN_ONE = ["tidy.test.ts", "unit", "sim", "golden"];
/** Each of their files is a job. */
const BY_FILE = ["conformance", "scenario", "support"];
/** Would keep one lane busy after the other had nothing left to do, if they were started late. */
const LONGEST = [
  "deno-serves-the-same",
  "testssl-finds-nothing",
  "conformance/bun",
  "conformance/deno",
  "certificates-rotate",
];

/** The jobs for the folder of all tests, the longest first. */
export function jobsOf(folder: string): Job[] {
  const files = BY_FILE.flatMap((name) => [...new Bun.Glob(`${name}/**/*.test.ts`).scanSync(folder)]).sort();
  const isLong = (file: string): boolean => LONGEST.some((name) => file.includes(name));
  return [
    IN_ONE,
    ...files.filter(isLong).map((file) => [file]),
    ...files.filter((file) => !isLong(file)).map((file) => [file]),
  ].map((names) => names.map((name) => `test/${name}`));
}

/** What the end of its output says of a `bun test`. One that ends badly has failed, whatever it says. */
export function countsOf(output: string, status: number | null): Counts {
  const tail = output.slice(-4096);
  const count = (word: string): number => Number(new RegExp(`^\\s*(\\d+) ${word}`, "m").exec(tail)?.[1] ?? 0);
  const [passed, skipped] = [count("pass"), count("skip")];
  return { passed, failed: Math.max(count("fail"), status === 0 ? 0 : 1), skipped };
}

export function add(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}
