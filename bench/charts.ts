// Charts of a run as SVG, drawn by Vega without a browser. Only the report needs this file and its development dependencies.
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { type Curve, type FigureResult, type Run, summarise, summaryOf, type WorkloadResult } from "./results.ts";

const COLOURS = { ours: "#c2410c", peer: "#475569", floor: "#cbd5e1", none: "#e2e8f0" } as const;
const WIDTH = 420;

/** The compared figures of a workload below each other: a bar for each contender's median, a line from least to greatest. */
export function workloadChart(run: Run, workload: WorkloadResult): Promise<string> {
  const figures = workload.figures.filter(({ compared, contenders }) => compared && contenders.length > 0);
  return draw({ vconcat: figures.map((figure) => bars(run, figure)), resolve: { scale: { x: "independent" } } });
}

/** CPU of a new connection and memory over the number of something, both from zero. */
export function curveChart(curve: Curve): Promise<string> {
  const values = curve.points.map(({ size, cpu, memory }) => ({ size, memory, ...summarise(cpu) }));
  const x = { field: "size", type: "quantitative", scale: { type: "log" }, title: curve.name } as const;
  const colour = { value: COLOURS.ours };
  return draw({
    hconcat: [
      {
        width: WIDTH / 2,
        height: 160,
        data: { values },
        layer: [
          {
            mark: { type: "line", point: true },
            encoding: {
              x,
              y: { field: "median", type: "quantitative", title: "CPU µs per new connection" },
              color: colour,
            },
          },
          {
            mark: "rule",
            encoding: { x, y: { field: "min", type: "quantitative" }, y2: { field: "max" }, color: colour },
          },
        ],
      },
      {
        width: WIDTH / 2,
        height: 160,
        data: { values },
        mark: { type: "line", point: true },
        encoding: { x, y: { field: "memory", type: "quantitative", title: "MiB of the process" }, color: colour },
      },
    ],
  });
}

function bars(run: Run, figure: FigureResult) {
  const values = run.contenders.flatMap(({ name, role }) => {
    const summary = summaryOf(figure, name);
    return summary === undefined ? [] : [{ name, role, ...summary }];
  });
  const y = { field: "name", type: "nominal", sort: null, title: null } as const;
  const better = figure.better === "more" ? "more is better" : "less is better";
  return {
    width: WIDTH,
    height: { step: 20 },
    data: { values },
    layer: [
      {
        mark: "bar",
        encoding: {
          y,
          x: { field: "median", type: "quantitative", title: `${figure.label}: ${better}` },
          color: {
            field: "role",
            type: "nominal",
            scale: { domain: Object.keys(COLOURS), range: Object.values(COLOURS) },
            legend: null,
          },
        },
      },
      {
        mark: "rule",
        encoding: { y, x: { field: "min", type: "quantitative" }, x2: { field: "max" }, color: { value: "black" } },
      },
    ],
  } as const;
}

async function draw(spec: object): Promise<string> {
  // Numbers and sizes of text are Vega's own estimates: there is no canvas to measure with, and no need for one.
  const config = { background: "white", font: "sans-serif" };
  const { spec: compiled } = compile({ ...spec, config } as TopLevelSpec);
  const view = new View(parse(compiled), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}
