// What is costly to build for a snapshot is built in pieces, and between them come those who have something to relay.

/** What can be made a piece at a time. Whoever needs it before it is whole makes the rest. */
export interface MadeInPieces {
  /** Makes another piece, of less than a millisecond if no rule or route has thousands of values. Whether there is more to make. */
  makeSome(): boolean;
}

/** How long to work before yielding to the event loop; a piece that has begun is finished. */
const TURN_MS = 0.5;
/** Where the others are so busy that our turns come seldom, each may be this part of what they took: whoever waits for the snapshot ends a worker that seems to hang. */
const SHARE = 0.2;
/** Even so. */
const LONGEST_TURN_MS = 5;

/** Makes all of it, and lets the event loop turn after each half a millisecond or a little more. */
export async function makeInPieces(parts: Iterable<MadeInPieces>): Promise<void> {
  await nextTurn();
  let sinceMs = performance.now();
  let turnMs = TURN_MS;
  for (const part of parts) {
    for (let isMore = true; isMore; ) {
      isMore = part.makeSome();
      const leftMs = performance.now();
      if (leftMs - sinceMs < turnMs) continue;
      await nextTurn();
      sinceMs = performance.now();
      turnMs = Math.min(LONGEST_TURN_MS, Math.max(TURN_MS, (sinceMs - leftMs) * SHARE));
    }
  }
}

/** Of the event loop: whoever has something to relay comes first. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
