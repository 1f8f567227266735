// What is costly to build for a snapshot is built in pieces, with turns of the event loop in between, so that relaying goes on.

/** Something that can be built a piece at a time. Using it before it is complete builds the rest. */
export interface MadeInPieces {
  /** Builds another piece, in less than a millisecond unless a rule or route has thousands of values. Returns whether there is more to build. */
  makeSome(): boolean;
}

/** How long to work before yielding to the event loop; a piece that has begun is finished. */
const TURN_MS = 0.5;
/** Where relaying is so busy that our turns come seldom, a turn may take this share of the time since the last one: the supervisor kills a worker that takes too long. */
const SHARE = 0.2;
/** The limit of that. */
const LONGEST_TURN_MS = 5;

/** Builds everything, yielding to the event loop after each half a millisecond or a little more. */
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
