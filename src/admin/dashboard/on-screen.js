// A table that nobody sees is rendered less often: with a thousand endpoints that all change, laying them out each second is most of the page's work.

/** @import { Model } from "./model.js" */

/** So old may be what is found on the page by the browser's own search. */
const UNSEEN_EVERY_MS = 10_000;

/**
 * Renders at once while `section` is on the screen or comes to it, and else now and then.
 * @param {Element} section
 * @param {(model: Model) => void} render
 * @returns {(model: Model) => void}
 */
export function onScreen(section, render) {
  let isSeen = false;
  let renderedAtMs = Number.NEGATIVE_INFINITY;
  /** What has not been rendered yet. @type {Model | null} */
  let waiting = null;

  /** @param {Model} model */
  const now = (model) => {
    waiting = null;
    renderedAtMs = performance.now();
    render(model);
  };
  new IntersectionObserver((entries) => {
    isSeen = entries.at(-1)?.isIntersecting === true;
    if (isSeen && waiting !== null) now(waiting);
  }).observe(section);
  return (model) => {
    if (isSeen || performance.now() - renderedAtMs >= UNSEEN_EVERY_MS) now(model);
    else waiting = model;
  };
}
