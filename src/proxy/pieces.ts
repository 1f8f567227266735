// What is costly to build for a snapshot is built in pieces, and between them come those who have something to relay.

/** What can be made a piece at a time. Whoever needs it before it is whole makes the rest. */
export interface MadeInPieces {
  /** Makes another piece, of less than a millisecond. Whether there is more to make. */
  makeSome(): boolean;
}

/** How long a turn may be, but for the piece that is begun by then. */
const TURN_MS = 0.5;

/** Makes all of it, and a turn of the event loop after each half a millisecond. */
export async function makeInPieces(parts: Iterable<MadeInPieces>): Promise<void> {
  await nextTurn();
  let sinceMs = performance.now();
  for (const part of parts) {
    for (let isMore = true; isMore; ) {
      isMore = part.makeSome();
      if (performance.now() - sinceMs < TURN_MS) continue;
      await nextTurn();
      sinceMs = performance.now();
    }
  }
}

/** Of the event loop: whoever has something to relay comes first. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
