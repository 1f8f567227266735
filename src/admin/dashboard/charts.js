// The two charts: bytes and connections per second, over ten minutes. Their legends say in text what the lines say now.

/** @import uPlot from "uplot" */
/** @import { Model } from "./model.js" */

import { make, setText } from "./dom.js";
import { byteRate, clock, duration, rate } from "./format.js";

/** @typedef {{ readonly label: string, readonly color: string, readonly of: "up" | "down" | "opened" | "failed" }} Series */

const HEIGHT = 170;
/** The page has seen nothing when it is opened: the axis grows from so much to ten minutes. */
const SHORTEST_S = 60;
const LONGEST_S = 600;
/** Where nothing moves the axis still needs a top. */
const LOWEST_TOP = { bytes: 1000, rates: 5 };

/**
 * A chart of some series in that place. Returns the function that renders it.
 * @param {HTMLElement} place
 * @param {"bytes" | "rates"} kind
 * @param {readonly Series[]} series
 */
export function chart(place, kind, series) {
  const format = kind === "bytes" ? byteRate : rate;
  const values = series.map(() => make("b", {}, "–"));
  const swatches = series.map(({ color }) => make("i", { class: `swatch ${color}` }));
  const at = make("span", { class: "note" }, "");
  const legend = make("p", { class: "legend" });
  for (const [index, { label }] of series.entries()) {
    const item = make("span", {}, swatches[index] ?? null, `${label} `, values[index] ?? null);
    legend.append(item);
  }
  legend.append(at);
  const canvas = make("div", { class: "plot", "aria-hidden": "true" });
  place.replaceChildren(legend, canvas);

  let ink = inkOf(place, swatches);
  /** @type {Model | null} */
  let shown = null;
  const plot = new (uPlotOfPage())(optionsOf(), [[], ...series.map(() => [])], canvas);
  new ResizeObserver(() => plot.setSize({ width: Math.max(200, canvas.clientWidth), height: HEIGHT })).observe(canvas);
  const repaint = () => {
    ink = inkOf(place, swatches);
    plot.redraw(false, true);
  };
  addEventListener("bunnel-theme", repaint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  /** @returns {uPlot.Options} */
  function optionsOf() {
    /** @type {uPlot.Axis} */
    const axis = {
      stroke: () => ink.text,
      font: "11px system-ui, sans-serif",
      grid: { stroke: () => ink.grid, width: 1 },
      ticks: { show: false },
    };
    return {
      width: Math.max(200, canvas.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: { sync: { key: "bunnel" }, drag: { x: false, y: false }, points: { size: 6 } },
      padding: [8, 26, 0, 0],
      scales: {
        x: { time: true, range: (_, first, last) => [last - spanOf(first, last), last] },
        y: { range: (_, __, top) => [0, Math.max(top * 1.1, LOWEST_TOP[kind])] },
      },
      axes: [
        {
          ...axis,
          size: 28,
          space: 90,
          values: (_, splits, __, ___, step) =>
            splits.map((time) => clock(time * 1000, time * 1000).slice(0, step < 60 ? 8 : 5)),
        },
        { ...axis, size: kind === "bytes" ? 72 : 48, values: (_, splits) => splits.map((value) => format(value)) },
      ],
      series: [
        {},
        ...series.map(({ of }, index) => ({
          stroke: () => ink.lines[index] ?? ink.text,
          width: of === "failed" ? 2 : 1.5,
          spanGaps: false,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [() => say()] },
    };
  }

  /** The values under the pointer, or else the latest. */
  function say() {
    if (shown === null) return;
    const { history } = shown;
    const index = plot.cursor.idx ?? history.time.length - 1;
    for (const [which, { of }] of series.entries()) {
      const element = values[which];
      if (element !== undefined) setText(element, format(history[of][index] ?? null));
    }
    const time = history.time[index];
    const isPointed = plot.cursor.idx !== null && plot.cursor.idx !== undefined && time !== undefined;
    setText(at, isPointed ? `at ${clock(time * 1000)}` : lastOf(history.time));
  }

  return (/** @type {Model} */ model) => {
    shown = model;
    plot.setData([model.history.time, ...series.map(({ of }) => model.history[of])]);
    say();
  };
}

/**
 * @param {number} first
 * @param {number} last
 */
function spanOf(first, last) {
  return Math.min(LONGEST_S, Math.max(SHORTEST_S, last - first));
}

/** @param {readonly number[]} times */
function lastOf(times) {
  return `last ${duration(1000 * Math.round(spanOf(times[0] ?? 0, times.at(-1) ?? 0)))}`;
}

/** The library is a script of its own on the page. */
function uPlotOfPage() {
  return /** @type {{ uPlot: typeof uPlot }} */ (/** @type {unknown} */ (window)).uPlot;
}

/**
 * The colours of the theme, as the style sheets have them.
 * @param {HTMLElement} place
 * @param {readonly HTMLElement[]} swatches
 */
function inkOf(place, swatches) {
  const style = getComputedStyle(place);
  return {
    text: style.color,
    grid: style.borderTopColor,
    lines: swatches.map((swatch) => getComputedStyle(swatch).backgroundColor),
  };
}
