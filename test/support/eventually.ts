// Waiting in tests: poll until something holds, and fail with words when it never does. Never a fixed sleep, which is too short on a
// busy machine and too long on every other. Here is nothing of a platform: the conformance suite waits with it too.

/** Less than a test may take, so that the failure is told where it belongs. */
const PATIENCE_MS = 4_500;
const POLL_MS = 5;

/** Polls until `probe` gives something truthy, and gives that; throws with `what`, which finishes "it never came about that …". */
export async function eventually<T>(
  what: string | (() => string),
  probe: () => T | Promise<T>,
  patienceMs = PATIENCE_MS,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (performance.now() > deadline) {
      throw new Error(`in ${patienceMs} ms it never came about that ${typeof what === "string" ? what : what()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
