// A cache of bounded size, for values that are costly to make and depend on their key only.

/** Keeps the last `atMost` values that were put into it (first in, first out). */
export class Recent<V> {
  readonly #atMost: number;
  readonly #values = new Map<string, V>();

  constructor(atMost: number) {
    this.#atMost = atMost;
  }

  get(key: string): V | undefined {
    return this.#values.get(key);
  }

  /** Puts in a value whose key is not in it. When it is full, the one that was put in first goes. */
  put(key: string, value: V): void {
    if (this.#values.size >= this.#atMost) {
      // A Map keeps the order in which its keys came.
      const [oldest] = this.#values.keys();
      this.#values.delete(oldest as string);
    }
    this.#values.set(key, value);
  }
}
