// Tables of text. In a terminal that is too narrow, long texts are clipped and then columns are left out, the least important first; where there is
// no terminal nothing is, so that programs which read a table find all of it.

import { clipped, columnsOf, printable } from "./printable.ts";

/** A column of a table. */
export interface Column {
  readonly head: string;
  /** Numbers stand at the right. Default: left. */
  readonly right?: boolean;
  /** The fewest columns of the terminal that its texts may be clipped to. Default: they are never clipped. */
  readonly least?: number;
  /** Which end of a clipped text is shown. Default: start. */
  readonly keep?: "start" | "end";
  /** Columns with the highest go first where there is no room; without one it stays. */
  readonly spare?: number;
}

const GAP = "  ";

/** The head and a line for each row, none wider than `width`, as long as the columns that have to stay allow it. Cells are made printable. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width = Number.POSITIVE_INFINITY,
): string[] {
  const texts = rows.map((cells) => cells.map(printable));
  const widest = columns.map((column, index) =>
    Math.max(columnsOf(column.head), ...texts.map((cells) => columnsOf(cells[index] ?? ""))),
  );
  const isEmpty = columns.map((_, index) => rows.length > 0 && rows.every((cells) => (cells[index] ?? "") === ""));
  const widths = fitting({ columns, widest, isEmpty, width });
  const line = (cells: readonly string[]): string => {
    const parts: string[] = [];
    for (const [index, { right = false, keep = "start" }] of columns.entries()) {
      const room = widths[index] ?? 0;
      if (room === 0) continue;
      const cell = clipped(cells[index] ?? "", room, keep);
      const padding = " ".repeat(Math.max(0, room - columnsOf(cell)));
      parts.push(right ? padding + cell : cell + padding);
    }
    return parts.join(GAP).trimEnd();
  };
  return [columns.map(({ head }) => head), ...texts].map(line);
}

interface Demand {
  readonly columns: readonly Column[];
  /** Of each column, what its texts would take. */
  readonly widest: readonly number[];
  readonly isEmpty: readonly boolean[];
  readonly width: number;
}

/** Widths of the columns; 0 of those that are left out. */
function fitting({ columns, widest, isEmpty, width }: Demand): readonly number[] {
  const least = columns.map((column, index) => {
    const all = widest[index] ?? 0;
    return column.least === undefined ? all : Math.min(all, Math.max(column.least, columnsOf(column.head)));
  });
  const isShown = columns.map(() => true);
  const total = (widths: readonly number[]): number => {
    const shown = widths.filter((_, index) => isShown[index]);
    return shown.reduce((sum, each) => sum + each, 0) + GAP.length * (shown.length - 1);
  };
  while (total(least) > width) {
    // One in which nothing stands goes first.
    const spare = columns.map(({ spare = 0 }, index) =>
      isShown[index] ? (isEmpty[index] && spare > 0 ? Number.POSITIVE_INFINITY : spare) : 0,
    );
    const most = Math.max(...spare);
    if (most === 0) break;
    isShown[spare.indexOf(most)] = false;
  }
  const widths = [...widest];
  // The widest gives first, so that short texts stay whole.
  for (let over = total(widths) - width; over > 0; over--) {
    const room = widths.map((each, index) => (isShown[index] && each > (least[index] ?? 0) ? each : 0));
    const most = Math.max(...room);
    if (most === 0) break;
    widths[room.indexOf(most)] = most - 1;
  }
  return widths.map((each, index) => (isShown[index] ? each : 0));
}
