// The connections of a worker, oldest first. A Set would do, but for the garbage collector: each time that a Set whose members
// change makes itself a new table, the old one points to it and still to the members that it had. Once such a table has grown old, all that came after it is kept until the
// next full collection.

import type { Connection } from "./connection.ts";

/** The number of free places from which on compacting is worthwhile. */
const LEAST_MOVED = 64;

/** The open connections. May be iterated while connections come and go: one that stays is visited exactly once. */
export class ConnectionList implements Iterable<Connection> {
  /** By `Connection.place`, and so by id; null where one has gone. */
  readonly #places: (Connection | null)[] = [];
  #size = 0;
  /** How many times the list was compacted. */
  #moves = 0;

  get size(): number {
    return this.#size;
  }

  /** One whose id is greater than all before. */
  add(connection: Connection): void {
    connection.place = this.#places.push(connection) - 1;
    this.#size++;
  }

  /** One that was added, and not deleted yet. */
  delete({ place }: Connection): void {
    this.#places[place] = null;
    this.#size--;
    if (this.#places.length >= LEAST_MOVED && this.#size <= this.#places.length / 2) this.#moveUp();
  }

  *[Symbol.iterator](): Generator<Connection, void, void> {
    let moves = this.#moves;
    for (let place = 0; place < this.#places.length; place++) {
      const connection = this.#places[place] as Connection | null;
      if (connection === null) continue;
      yield connection;
      if (moves === this.#moves) continue;
      moves = this.#moves;
      const next = this.#places.findIndex((each) => each !== null && each.id > connection.id);
      place = (next < 0 ? this.#places.length : next) - 1;
    }
  }

  /** Closes the gaps. */
  #moveUp(): void {
    let place = 0;
    for (const connection of this.#places) {
      if (connection === null) continue;
      connection.place = place;
      this.#places[place++] = connection;
    }
    this.#places.length = place;
    this.#moves++;
  }
}
