// An exposition of metrics, read again.

/** One line. */
interface Line {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** The samples of a scrape; names are without `bunnel_`. */
export class Samples {
  readonly text: string;
  readonly #lines: readonly Line[];

  constructor(text: string) {
    this.text = text;
    this.#lines = text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map(parse);
  }

  /** The sum of those that have all of these labels; 0 when there are none. */
  sum(name: string, labels: Readonly<Record<string, string>>): number {
    return this.#find(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  /** How many have all of these labels. */
  count(name: string, labels: Readonly<Record<string, string>>): number {
    return this.#find(name, labels).length;
  }

  /** Whether there are any of that metric. */
  has(name: string): boolean {
    return this.#lines.some((line) => line.name === name || line.name === `${name}_count`);
  }

  #find(name: string, labels: Readonly<Record<string, string>>): readonly Line[] {
    return this.#lines.filter(
      (line) =>
        line.name === name && Object.entries(labels).every(([label, value]) => line.labels.get(label) === value),
    );
  }
}

function parse(line: string): Line {
  const [, name = "", labels = "", value = ""] = /^bunnel_(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
  const pairs = [...labels.matchAll(/(\w+)="((?:\\.|[^"\\])*)"/g)].map(
    ([, key = "", text = ""]) => [key, text] as const,
  );
  return { name, labels: new Map(pairs), value: Number(value) };
}
