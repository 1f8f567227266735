// Asking again and again for what the stream does not bring: only while it is on the screen, so that nobody is asked for what nobody sees.

/** What is only scrolled past, or is there until what stands above it has been filled in, is not asked for. */
const SETTLE_MS = 300;

/**
 * Calls `load` every `everyMs` while `section` is seen, one call at a time, and `forget` when it is no longer. Returns a function that has `load` called at once.
 * @param {Element} section
 * @param {number} everyMs
 * @param {{ load: () => Promise<void>, forget: () => void }} what `load` does not reject.
 */
export function poll(section, everyMs, { load, forget }) {
  let isSeen = false;
  let isAsking = false;
  let isWanted = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const ask = async () => {
    clearTimeout(timer);
    isWanted = true;
    if (isAsking) return;
    isAsking = true;
    while (isWanted && isSeen && !document.hidden) {
      isWanted = false;
      await load();
    }
    isAsking = false;
    if (isSeen && !document.hidden) timer = setTimeout(ask, everyMs);
  };

  new IntersectionObserver((entries) => {
    isSeen = entries.at(-1)?.isIntersecting === true;
    clearTimeout(timer);
    if (isSeen) timer = setTimeout(ask, SETTLE_MS);
    else forget();
  }).observe(section);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });
  return () => {
    ask();
  };
}
