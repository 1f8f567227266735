// Numbers of active connections, in memory that all processes of the daemon share: a row for each process that relays, a column (a slot) for
// the daemon, each listener and each endpoint, and above them a row of totals. Limits and balancing use the totals, so they
// are exact however many processes there are; a row says how much to subtract from the totals when its process dies.
//
// A process that is killed may have changed a total and not its row, or the other way round. So each row notes which slot it is working on;
// `reclaim` sets the total of that one slot right from the rows.

import { assert } from "../base/assert.ts";
import { EndpointStates, STATE_CELLS } from "./endpoint-states.ts";
import { addTo, METERS_BYTES, Meters, readFrom } from "./meters.ts";

/** Slots of a daemon. Memory is taken for those that are used. */
export const MAX_SLOTS = 65_536;

/** The column of the daemon as a whole: the last one. */
export const DAEMON_SLOT = MAX_SLOTS - 1;

/** Further counters of each slot; they only ever grow. */
const TRAFFIC = ["opened", "failed"] as const;
export type Traffic = (typeof TRAFFIC)[number];

/** The counter of dropped access-log lines, in the column of the daemon. */
export const DROPPED_LINES: Traffic = "failed";
/** The counter of spans that have not reached their collector, in the same column. */
export const DROPPED_SPANS: Traffic = "opened";

/** To be incremented with every change of the layout: a successor that knows another layout starts with a table of its own. */
const LAYOUT = 6;
const HEADER_CELLS = 16;
/** Cells of the header: who supervises, what it does, and its exit code. */
const SUPERVISOR = 3;
const SUPERVISOR_STATE = 4;
const EXIT_CODE = 5;
const SUPERVISOR_STATES = ["serving", "draining", "ended"] as const;
/** Cells of a row beside its counts: a cache line, so that processes do not disturb each other. */
const CONTROL_CELLS = 16;
const OWNER = 0;
/** Odd while the row and a total are being changed. */
const SEQUENCE = 1;
/** The slot that is being changed. */
const WORKING_ON = 2;
/** The recent maximum delay of its event loop, in microseconds. */
const LAG = 3;
/** Row 0 is never used, so that 0 can mean "none". */
const FIRST_ROW = 1;
/** How often a recount is retried while rows change: a process that was stopped in between two steps must not block it for ever. */
const MOST_RECOUNTS = 100_000;
const CELL_BYTES = Int32Array.BYTES_PER_ELEMENT;
const PAGE_BYTES = 4096;

/**
 * Memory for a table, that reads as zero at first. It is mapped in parts: the engine counts what is mapped as live memory of its heap, and
 * would hardly collect garbage if each process mapped the rows of all.
 */
export interface TableMemory {
  readonly bytes: number;
  /** A part of it; the same arguments give the same memory. `offset` is a multiple of a page. */
  map(offset: number, bytes: number): ArrayBufferLike;
}

/** Memory of this process alone. */
export function privateMemory(bytes: number): TableMemory {
  const parts = new Map<number, ArrayBuffer>();
  return {
    bytes,
    map(offset, length) {
      const part = parts.get(offset) ?? new ArrayBuffer(length);
      parts.set(offset, part);
      return part;
    },
  };
}

export interface TableSize {
  /** One more than there can be processes at once. */
  readonly rows: number;
  /** Slots. */
  readonly columns: number;
}

/** What the process that decides has last said of itself, for those that stand in for it. */
export interface SupervisorNote {
  readonly pid: number;
  readonly state: (typeof SUPERVISOR_STATES)[number];
  /** Once it has ended. */
  readonly exitCode: number;
}

/** The whole table. The supervisor's view; a process that relays uses its `CountRow`. */
export class CountTable {
  readonly rows: number;
  readonly columns: number;
  /** How the endpoints in the slots are. */
  readonly states: EndpointStates;
  /** What has happened. */
  readonly meters: Meters;
  /** Active connections by slot, to be read only. Without the cost of an atomic load: for whoever reads many, and then acts by `addIfStill`. */
  readonly totals: Int32Array;
  readonly #memory: TableMemory;
  /** Header and controls of the rows, then the totals. */
  readonly #cells: Int32Array;
  readonly #traffic: Int32Array;
  readonly #rowCells = new Map<number, Int32Array>();

  /** Bytes that a table needs. Memory that is only taken when touched will do. */
  static bytes(size: TableSize): number {
    return rowOffset(size, size.rows) + METERS_BYTES;
  }

  /** On memory that is all zero, or holds a table already; one of another layout or size is a defect: ask `fits` first. */
  constructor(memory: TableMemory, { rows, columns }: TableSize) {
    this.rows = rows;
    this.columns = columns;
    this.#memory = memory;
    const common = memory.map(0, rowOffset(this, 0));
    const statesAt = totalAt(this, columns) * CELL_BYTES;
    const trafficAt = statesAt + columns * STATE_CELLS * CELL_BYTES;
    this.#cells = new Int32Array(common, 0, totalAt(this, columns));
    this.totals = this.#cells.subarray(totalAt(this, 0), totalAt(this, columns));
    this.states = new EndpointStates(new Int32Array(common, statesAt, columns * STATE_CELLS));
    this.#traffic = new Int32Array(common, trafficAt, columns * TRAFFIC.length * 2);
    this.meters = new Meters(memory, rowOffset(this, rows));
    if (this.#cells[0] === 0) this.#cells.set([LAYOUT, rows, columns]);
    const [layout, hasRows, hasColumns] = this.#cells;
    assert(layout === LAYOUT && hasRows === rows && hasColumns === columns, "a table is read as it was written");
  }

  /** Whether memory holds a table of this layout and size. */
  static fits(memory: TableMemory, size: TableSize): boolean {
    if (memory.bytes < CountTable.bytes(size)) return false;
    const [layout, rows, columns] = new Int32Array(memory.map(0, rowOffset(size, 0)), 0, 3);
    return layout === LAYOUT && rows === size.rows && columns === size.columns;
  }

  /** Who supervises now. */
  get supervisor(): SupervisorNote {
    const state = SUPERVISOR_STATES[this.#load(SUPERVISOR_STATE)] ?? "serving";
    return { pid: this.#load(SUPERVISOR), state, exitCode: this.#load(EXIT_CODE) };
  }

  noteSupervisor({ pid, state, exitCode }: SupervisorNote): void {
    Atomics.store(this.#cells, SUPERVISOR_STATE, SUPERVISOR_STATES.indexOf(state));
    Atomics.store(this.#cells, EXIT_CODE, exitCode);
    Atomics.store(this.#cells, SUPERVISOR, pid);
  }

  /** A row for the process with this id, or null when there is none left. */
  claim(owner: number): CountRow | null {
    for (let row = FIRST_ROW; row < this.rows; row++) {
      if (Atomics.compareExchange(this.#cells, controlAt(row) + OWNER, 0, owner) === 0) return this.row(row);
    }
    return null;
  }

  /** The row with this number, for the process it was claimed for. */
  row(row: number): CountRow {
    return new CountRow(this, row, { cells: this.#cells, held: this.#cellsOf(row), traffic: this.#traffic });
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
    for (let row = FIRST_ROW; row < this.rows; row++) {
      const owner = this.#load(controlAt(row) + OWNER);
      if (owner !== 0) found.push({ row, owner });
    }
    return found;
  }

  /** Active connections of a slot, of all processes. */
  total(slot: number): number {
    return this.#load(totalAt(this, slot));
  }

  /** Active connections of a slot that one row holds. */
  held(row: number, slot: number): number {
    return Atomics.load(this.#cellsOf(row), slot);
  }

  /** A traffic counter of a slot, of all processes that ever were. */
  traffic(slot: number, what: Traffic): number {
    return readFrom(this.#traffic, trafficAt(slot, what));
  }

  /** How long the event loop of a row's process was held up at most of late, in ms; of row 0, that of the supervisor. */
  lagMs(row: number): number {
    return this.#load(controlAt(row) + LAG) / 1000;
  }

  noteLag(row: number, ms: number): void {
    Atomics.store(this.#cells, controlAt(row) + LAG, Math.min(Math.round(ms * 1000), 2 ** 31 - 1));
  }

  /**
   * Takes back the row of a process that has ended: what it held is held no more, what it has counted stays counted. `slotCount` is one more than
   * the largest slot that was ever given out.
   */
  reclaim(row: number, slotCount: number): void {
    const control = controlAt(row);
    const cells = this.#cellsOf(row);
    const broken = this.#load(control + SEQUENCE) % 2 === 1 ? this.#load(control + WORKING_ON) : -1;
    for (const slot of [...Array(slotCount).keys(), DAEMON_SLOT]) {
      const held = Atomics.exchange(cells, slot, 0);
      if (held !== 0 && slot !== broken) Atomics.sub(this.#cells, totalAt(this, slot), held);
    }
    if (broken >= 0) this.#recount(broken, row);
    Atomics.store(this.#cells, control + SEQUENCE, 0);
    Atomics.store(this.#cells, control + LAG, 0);
    Atomics.store(this.#cells, control + OWNER, 0);
    this.#rowCells.delete(row);
  }

  /** Makes the total of a slot the sum of its rows, while other processes go on changing both. */
  #recount(slot: number, except: number): void {
    for (let tries = 0; tries < MOST_RECOUNTS; tries++) {
      const before = this.#sequences(except);
      const total = this.total(slot);
      const sum = this.owners().reduce((held, { row }) => held + this.held(row, slot), 0);
      const after = this.#sequences(except);
      // Nobody was in between two steps, and nobody has made one: then the sum is that of one moment.
      const isStill = before.every((sequence, index) => sequence % 2 === 0 && sequence === after[index]);
      if (isStill && Atomics.compareExchange(this.#cells, totalAt(this, slot), total, sum) === total) return;
    }
  }

  /** Mapped when it is first asked for. */
  #cellsOf(row: number): Int32Array {
    const known = this.#rowCells.get(row);
    if (known !== undefined) return known;
    const cells = new Int32Array(this.#memory.map(rowOffset(this, row), this.columns * CELL_BYTES));
    this.#rowCells.set(row, cells);
    return cells;
  }

  #sequences(except: number): readonly number[] {
    return this.owners()
      .filter(({ row }) => row !== except)
      .map(({ row }) => this.#load(controlAt(row) + SEQUENCE));
  }

  #load(cell: number): number {
    return Atomics.load(this.#cells, cell);
  }
}

interface RowMemory {
  readonly cells: Int32Array;
  readonly held: Int32Array;
  readonly traffic: Int32Array;
}

/** What one process holds and counts. Only that process writes to its row. */
export class CountRow {
  /** Which row it is. */
  readonly number: number;
  readonly table: CountTable;
  readonly #cells: Int32Array;
  readonly #held: Int32Array;
  readonly #traffic: Int32Array;
  readonly #firstTotal: number;
  readonly #sequenceAt: number;
  readonly #workingOnAt: number;

  constructor(table: CountTable, row: number, { cells, held, traffic }: RowMemory) {
    this.number = row;
    this.table = table;
    this.#cells = cells;
    this.#held = held;
    this.#traffic = traffic;
    this.#firstTotal = totalAt(table, 0);
    this.#sequenceAt = controlAt(row) + SEQUENCE;
    this.#workingOnAt = controlAt(row) + WORKING_ON;
  }

  /** Active connections of a slot, of all processes. */
  total(slot: number): number {
    return Atomics.load(this.#cells, this.#firstTotal + slot);
  }

  /** Active connections of a slot that this process holds. */
  held(slot: number): number {
    return this.#held[slot] as number;
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
    const isStill = Atomics.compareExchange(this.#cells, this.#firstTotal + slot, total, total + 1) === total;
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
    addTo(this.#traffic, trafficAt(slot, what), amount);
  }

  #change(slot: number, difference: 1 | -1): void {
    this.#begin(slot);
    Atomics.add(this.#cells, this.#firstTotal + slot, difference);
    this.#addHeld(slot, difference);
    this.#done();
  }

  #addHeld(slot: number, difference: 1 | -1): void {
    Atomics.store(this.#held, slot, (this.#held[slot] as number) + difference);
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
  const row = new CountTable(privateMemory(CountTable.bytes(size)), size).claim(1);
  assert(row !== null, "a new table has a free row");
  return row;
}

function controlAt(row: number): number {
  return HEADER_CELLS + row * CONTROL_CELLS;
}

function totalAt({ rows }: TableSize, slot: number): number {
  return HEADER_CELLS + rows * CONTROL_CELLS + slot;
}

/** The cell with the low 32 bits; the high ones are in the next. */
function trafficAt(slot: number, what: Traffic): number {
  return (slot * TRAFFIC.length + TRAFFIC.indexOf(what)) * 2;
}

/** In bytes. What is common stands before the first row. */
function rowOffset({ rows, columns }: TableSize, row: number): number {
  const common = totalAt({ rows, columns }, columns) + columns * (STATE_CELLS + TRAFFIC.length * 2);
  return toPages(common * CELL_BYTES) + row * toPages(columns * CELL_BYTES);
}

function toPages(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}
