// Who holds how many connections, in memory that all processes of the daemon share: a row for each process that relays, a column (a slot) for
// the daemon, each listener and each endpoint, and above them a row of totals. Everybody decides by the totals, so a limit or a choice
// is exact however many processes there are; the rows say how much of a total goes away with a process that dies.
//
// A process that is killed may have changed a total and not its row, or the other way round. So each row notes which slot it is working on;
// `reclaim` sets the total of that one slot right from the rows.

import { assert } from "../base/assert.ts";
import { EndpointStates, STATE_CELLS } from "./endpoint-states.ts";

/** Slots of a daemon. Memory is taken for those that are used. */
export const MAX_SLOTS = 65_536;

/** The column of the daemon as a whole: the last one. */
export const DAEMON_SLOT = MAX_SLOTS - 1;

/** What is counted for each slot beside its active connections; it only ever grows. */
export const TRAFFIC = ["opened", "failed", "bytesUp", "bytesDown"] as const;
export type Traffic = (typeof TRAFFIC)[number];

/** Changes whenever what stands where does: a successor that knows another layout starts with a table of its own. */
const LAYOUT = 2;
const HEADER_CELLS = 16;
/** Cells of a row beside its counts: a cache line, so that processes do not disturb each other. */
const CONTROL_CELLS = 16;
const OWNER = 0;
/** Odd while the row and a total are being changed. */
const SEQUENCE = 1;
/** The slot that is being changed. */
const WORKING_ON = 2;
/** A process that has been stopped in between two steps is not waited for. */
const MOST_RECOUNTS = 100_000;
/** What a process that died has counted is kept in this row, which nobody else writes to. */
const ARCHIVE_ROW = 0;

export interface TableSize {
  /** Processes at once; one more is kept for those that have ended. */
  readonly rows: number;
  /** Slots. */
  readonly columns: number;
}

/** The whole table. The supervisor's view; a process that relays uses its `CountRow`. */
export class CountTable {
  readonly rows: number;
  readonly columns: number;
  /** How the endpoints in the slots are. */
  readonly states: EndpointStates;
  readonly #cells: Int32Array;
  readonly #traffic: Float64Array;

  /** Bytes that a table needs. Memory that reads as zero and is only taken when touched will do. */
  static bytes({ rows, columns }: TableSize): number {
    return statesOffset(rows, columns) + columns * STATE_CELLS * Int32Array.BYTES_PER_ELEMENT;
  }

  /** On memory that is all zero, or holds a table already; one of another layout or size is a defect: ask `fits` first. */
  constructor(memory: ArrayBufferLike, { rows, columns }: TableSize) {
    this.rows = rows;
    this.columns = columns;
    this.#cells = new Int32Array(memory, 0, trafficOffset(rows, columns) / Int32Array.BYTES_PER_ELEMENT);
    this.#traffic = new Float64Array(memory, trafficOffset(rows, columns), rows * columns * TRAFFIC.length);
    this.states = new EndpointStates(new Int32Array(memory, statesOffset(rows, columns), columns * STATE_CELLS));
    if (this.#cells[0] === 0) this.#cells.set([LAYOUT, rows, columns]);
    assert(CountTable.fits(memory, { rows, columns }), "a table is read as it was written");
  }

  /** Whether memory holds a table of this layout and size. */
  static fits(memory: ArrayBufferLike, { rows, columns }: TableSize): boolean {
    if (memory.byteLength < CountTable.bytes({ rows, columns })) return false;
    const [layout, hasRows, hasColumns] = new Int32Array(memory, 0, 3);
    return layout === LAYOUT && hasRows === rows && hasColumns === columns;
  }

  /** A row for the process with this id, or null when there is none left. */
  claim(owner: number): CountRow | null {
    for (let row = ARCHIVE_ROW + 1; row < this.rows; row++) {
      if (Atomics.compareExchange(this.#cells, controlAt(row) + OWNER, 0, owner) === 0) return this.row(row);
    }
    return null;
  }

  /** The row with this number, for the process it was claimed for. */
  row(row: number): CountRow {
    return new CountRow(this.#cells, this.#traffic, this, row);
  }

  /** Says whose a claimed row is. */
  assign(row: number, owner: number): void {
    Atomics.store(this.#cells, controlAt(row) + OWNER, owner);
  }

  /** The same, if it still is `from`: of those who try at once, one does. */
  reassign(row: number, from: number, to: number): boolean {
    return Atomics.compareExchange(this.#cells, controlAt(row) + OWNER, from, to) === from;
  }

  /** The rows in use, with their owners. */
  owners(): readonly { readonly row: number; readonly owner: number }[] {
    const found: { row: number; owner: number }[] = [];
    for (let row = ARCHIVE_ROW + 1; row < this.rows; row++) {
      const owner = this.#load(controlAt(row) + OWNER);
      if (owner !== 0) found.push({ row, owner });
    }
    return found;
  }

  /** Active connections of a slot, of all processes. */
  total(slot: number): number {
    return this.#load(this.#totalAt(slot));
  }

  /** Active connections of a slot that one row holds. */
  held(row: number, slot: number): number {
    return this.#load(this.#heldAt(row, slot));
  }

  /** A traffic counter of a slot, of all processes that ever were. */
  traffic(slot: number, what: Traffic): number {
    let sum = this.#traffic[this.#trafficAt(ARCHIVE_ROW, slot, what)] as number;
    for (const { row } of this.owners()) sum += this.#traffic[this.#trafficAt(row, slot, what)] as number;
    return sum;
  }

  /**
   * Takes back the row of a process that has ended: what it held is held no more, what it has counted stays counted. `slotCount` is one more than
   * the largest slot that was ever given out.
   */
  reclaim(row: number, slotCount: number): void {
    const control = controlAt(row);
    const broken = this.#load(control + SEQUENCE) % 2 === 1 ? this.#load(control + WORKING_ON) : -1;
    const slots = [...Array(slotCount).keys(), DAEMON_SLOT];
    for (const slot of slots) {
      const held = this.held(row, slot);
      Atomics.store(this.#cells, this.#heldAt(row, slot), 0);
      if (held !== 0 && slot !== broken) Atomics.sub(this.#cells, this.#totalAt(slot), held);
      for (const what of TRAFFIC) {
        const from = this.#trafficAt(row, slot, what);
        const count = this.#traffic[from] as number;
        if (count === 0) continue;
        const to = this.#trafficAt(ARCHIVE_ROW, slot, what);
        this.#traffic[to] = (this.#traffic[to] as number) + count;
        this.#traffic[from] = 0;
      }
    }
    if (broken >= 0) this.#recount(broken, row);
    Atomics.store(this.#cells, control + SEQUENCE, 0);
    Atomics.store(this.#cells, control + OWNER, 0);
  }

  /** Makes the total of a slot the sum of its rows, while other processes go on changing both. */
  #recount(slot: number, except: number): void {
    for (let tries = 0; tries < MOST_RECOUNTS; tries++) {
      const before = this.#sequences(except);
      const total = this.total(slot);
      let sum = 0;
      for (let row = 1; row < this.rows; row++) sum += this.held(row, slot);
      const after = this.#sequences(except);
      // Nobody was in between two steps, and nobody has made one: then the sum is that of one moment.
      const isStill = before.every((sequence, index) => sequence % 2 === 0 && sequence === after[index]);
      if (isStill && Atomics.compareExchange(this.#cells, this.#totalAt(slot), total, sum) === total) return;
    }
  }

  #sequences(except: number): readonly number[] {
    return this.owners()
      .filter(({ row }) => row !== except)
      .map(({ row }) => this.#load(controlAt(row) + SEQUENCE));
  }

  #load(cell: number): number {
    return Atomics.load(this.#cells, cell);
  }

  #totalAt(slot: number): number {
    return totalAt(this, slot);
  }

  #heldAt(row: number, slot: number): number {
    return heldAt(this, row, slot);
  }

  #trafficAt(row: number, slot: number, what: Traffic): number {
    return trafficAt(this, row, slot) + TRAFFIC.indexOf(what);
  }
}

/** What one process holds and counts. Only that process writes to it. */
export class CountRow {
  /** Which row it is. */
  readonly number: number;
  readonly table: CountTable;
  readonly #cells: Int32Array;
  readonly #traffic: Float64Array;
  readonly #sequenceAt: number;
  readonly #workingOnAt: number;

  constructor(cells: Int32Array, traffic: Float64Array, table: CountTable, row: number) {
    this.number = row;
    this.table = table;
    this.#cells = cells;
    this.#traffic = traffic;
    this.#sequenceAt = controlAt(row) + SEQUENCE;
    this.#workingOnAt = controlAt(row) + WORKING_ON;
  }

  /** Active connections of a slot, of all processes. */
  total(slot: number): number {
    return Atomics.load(this.#cells, totalAt(this.table, slot));
  }

  /** Active connections of a slot that this process holds. */
  held(slot: number): number {
    return this.#cells[heldAt(this.table, this.number, slot)] as number;
  }

  /** One more, whatever the total. */
  add(slot: number): void {
    this.#change(slot, 1);
  }

  /** One more, if that leaves the total at or below the limit (0 = none). */
  addWithin(slot: number, limit: number): boolean {
    for (;;) {
      const total = this.total(slot);
      if (limit > 0 && total >= limit) return false;
      if (this.addIfStill(slot, total)) return true;
    }
  }

  /** One more, if the total is still what it was when a choice was made by it. */
  addIfStill(slot: number, total: number): boolean {
    this.#begin(slot);
    const isStill = Atomics.compareExchange(this.#cells, totalAt(this.table, slot), total, total + 1) === total;
    if (isStill) this.#addHeld(slot, 1);
    this.#done();
    return isStill;
  }

  /** One fewer. */
  subtract(slot: number): void {
    assert(this.held(slot) > 0, "what is given back was taken");
    this.#change(slot, -1);
  }

  /** Adds to a traffic counter of a slot. */
  count(slot: number, what: Traffic, amount: number): void {
    const cell = trafficAt(this.table, this.number, slot) + TRAFFIC.indexOf(what);
    this.#traffic[cell] = (this.#traffic[cell] as number) + amount;
  }

  #change(slot: number, difference: 1 | -1): void {
    this.#begin(slot);
    Atomics.add(this.#cells, totalAt(this.table, slot), difference);
    this.#addHeld(slot, difference);
    this.#done();
  }

  #addHeld(slot: number, difference: 1 | -1): void {
    const cell = heldAt(this.table, this.number, slot);
    Atomics.store(this.#cells, cell, (this.#cells[cell] as number) + difference);
  }

  #begin(slot: number): void {
    Atomics.store(this.#cells, this.#workingOnAt, slot);
    Atomics.add(this.#cells, this.#sequenceAt, 1);
  }

  #done(): void {
    Atomics.add(this.#cells, this.#sequenceAt, 1);
  }
}

/** Room for the workers of a daemon, and for those of its predecessors that still drain. */
export const DAEMON_TABLE: TableSize = { rows: 200, columns: MAX_SLOTS };

/** A row for a process that shares its counts with nobody. */
export function privateCounts(): CountRow {
  const size = { rows: 2, columns: MAX_SLOTS };
  const row = new CountTable(new ArrayBuffer(CountTable.bytes(size)), size).claim(1);
  assert(row !== null, "a new table has a free row");
  return row;
}

function controlAt(row: number): number {
  return HEADER_CELLS + row * CONTROL_CELLS;
}

function totalAt({ rows }: TableSize, slot: number): number {
  return HEADER_CELLS + rows * CONTROL_CELLS + slot;
}

function heldAt({ rows, columns }: TableSize, row: number, slot: number): number {
  return HEADER_CELLS + rows * CONTROL_CELLS + (1 + row) * columns + slot;
}

function trafficAt({ columns }: TableSize, row: number, slot: number): number {
  return (row * columns + slot) * TRAFFIC.length;
}

function trafficOffset(rows: number, columns: number): number {
  const cells = HEADER_CELLS + rows * CONTROL_CELLS + (1 + rows) * columns;
  return Math.ceil((cells * Int32Array.BYTES_PER_ELEMENT) / 8) * 8;
}

function statesOffset(rows: number, columns: number): number {
  return trafficOffset(rows, columns) + rows * columns * TRAFFIC.length * Float64Array.BYTES_PER_ELEMENT;
}
