// A memory of bounded size, for what is costly to make and depends on nothing but its key.

/** Keeps the values that were put into it last, at most so many. */
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
