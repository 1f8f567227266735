// How long the event loop of this process is held up: everything that waits for its turn is delayed by that. A timer that should fire every now and then tells by how much
// it was late.

/** How often to check. A hold-up that is shorter may be missed, or seen in part. */
const LOOK_MS = 100;
/** The reported maximum is that of the current and the previous period of this length. */
const WINDOW_MS = 10_000;

/**
 * Looks from now on, and tells after each look the longest delay, in ms, of the last 10 to 20 seconds. `nowMs` is monotonic with a fraction. Returns what
 * stops it.
 */
export function watchLoopLag(nowMs: () => number, tell: (ms: number) => void): () => void {
  let dueMs = nowMs() + LOOK_MS;
  let windowEndsMs = nowMs() + WINDOW_MS;
  let longestMs = 0;
  let longestBeforeMs = 0;
  const look = setInterval(() => {
    const now = nowMs();
    if (now >= windowEndsMs) {
      longestBeforeMs = now - windowEndsMs >= WINDOW_MS ? 0 : longestMs;
      longestMs = 0;
      windowEndsMs = now + WINDOW_MS;
    }
    longestMs = Math.max(longestMs, now - dueMs, 0);
    dueMs = now + LOOK_MS;
    tell(Math.max(longestMs, longestBeforeMs));
  }, LOOK_MS);
  return () => clearInterval(look);
}
