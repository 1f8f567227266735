// The nearest known name to one that is not known, for "did you mean". A suggestion that is far off is worse than none.

/** Names longer than this are not compared: the work grows with the product of the lengths. */
const LONGEST_NAME = 100;

/** `; did you mean "name"?`, or "" when no known name is near. */
export function didYouMean(name: string, known: Iterable<string>): string {
  const near = nearestName(name, known);
  return near === null ? "" : `; did you mean "${near}"?`;
}

/** The known name with the fewest edits from `name`: at most two for each five characters. The first of equals. */
export function nearestName(name: string, known: Iterable<string>): string | null {
  let best: string | null = null;
  let bestDistance = Number.POSITIVE_INFINITY;
  if (name.length > LONGEST_NAME) return null;
  for (const candidate of known) {
    if (candidate.length > LONGEST_NAME) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    const longer = Math.max(name.length, candidate.length);
    // In names of up to three characters one edit is a resemblance, if it leaves something as it was.
    const most = longer <= 3 ? Math.min(1, longer - 1) : Math.floor((longer * 2) / 5);
    if (distance < bestDistance && distance <= most) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Edits that turn one text into the other, where swapping two neighbours is one edit (optimal string alignment). */
export function editDistance(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1];
      let cost = Math.min(at(last, column) + 1, at(current, column - 1) + 1, at(last, column - 1) + (same ? 0 : 1));
      const swapped = row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      if (swapped) cost = Math.min(cost, at(beforeLast, column - 2) + 1);
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return at(last, to.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}
