// From samples to tables: medians, ratios within a round, and cells that never turn a failure into a number.
import { expect, test } from "bun:test";
import {
  gatherFigure,
  RESULTS_END,
  RESULTS_START,
  type Report,
  renderMarkdown,
  renderTable,
  replaceResults,
  summarise,
} from "../../../bench/report.ts";

const CPU = {
  key: "cpu",
  label: "CPU seconds per GiB",
  digits: 2,
  compared: true,
  toReach: { kind: "ratio", atMost: 0.6 },
} as const;

function rounds(...values: number[]) {
  return new Map(values.map((cpu, round) => [round, { cpu }]));
}

test("the median of an odd and of an even count", () => {
  expect(summarise([3, 1, 10])).toEqual({ median: 3, min: 1, max: 10 });
  expect(summarise([4, 1, 2, 100])).toEqual({ median: 3, min: 1, max: 100 });
  expect(summarise([])).toBeUndefined();
});

test("a ratio is taken within each round, so drift that touches both cancels", () => {
  const samples = new Map([
    ["haproxy", rounds(1, 2, 4)],
    ["bunnel", rounds(0.5, 1, 2)],
  ]);
  const bunnel = gatherFigure(CPU, samples, "haproxy").contenders.find(({ contender }) => contender === "bunnel");
  expect(bunnel?.ratio).toEqual({ median: 0.5, min: 0.5, max: 0.5 });
  expect(bunnel?.summary).toEqual({ median: 1, min: 0.5, max: 2 });
});

test("rounds that the reference did not finish give no ratio", () => {
  const samples = new Map([
    ["haproxy", new Map([[1, { cpu: 2 }]])],
    ["bunnel", rounds(5, 1)],
  ]);
  const bunnel = gatherFigure(CPU, samples, "haproxy").contenders.find(({ contender }) => contender === "bunnel");
  expect(bunnel?.ratio).toEqual({ median: 0.5, min: 0.5, max: 0.5 });
  expect(gatherFigure(CPU, new Map([["bunnel", rounds(1)]]), "haproxy").contenders[0]?.ratio).toBeUndefined();
});

test("a figure for context has no ratio, and one that does not apply has no entry", () => {
  const samples = new Map([["haproxy", rounds(1)]]);
  expect(gatherFigure({ ...CPU, compared: false }, samples, "haproxy").contenders[0]?.ratio).toBeUndefined();
  expect(gatherFigure({ ...CPU, key: "rate" }, samples, "haproxy").contenders).toEqual([]);
});

test("a table has as many cells in each line", () => {
  expect(renderTable(["a", "b", "c"], [["1", "2", "3"]])).toBe("| a | b | c |\n| --- | --- | ---: |\n| 1 | 2 | 3 |");
});

function reportOf(samples: Map<string, Map<number, { cpu: number }>>): Report {
  return {
    command: "npm run bench",
    startedAt: "2026-01-01T00:00",
    seconds: 600,
    rounds: 1,
    scale: 1,
    machine: { machine: "one" },
    versions: { haproxy: "HAProxy 2.6" },
    reference: "haproxy",
    contenders: ["bunnel", "haproxy", "nginx"].map((name) => ({ name, about: name })),
    workloads: [{ name: "tcp-up", about: "bulk", figures: [gatherFigure(CPU, samples, "haproxy")] }],
    skipped: [{ what: "bun-minimal", why: "not there" }],
    failures: [{ workload: "tcp-up", contender: "nginx", round: 1, message: "exited with 1", logTail: "" }],
  };
}

test("the report says what was reached, what failed and what was skipped", () => {
  const reached = renderMarkdown(
    reportOf(
      new Map([
        ["bunnel", rounds(0.5)],
        ["haproxy", rounds(1)],
      ]),
    ),
  );
  expect(reached).toContain("| tcp-up | CPU seconds per GiB | ≤ 0.60 | 0.50 ✓ | failed |");
  expect(reached).toContain("| tcp-up | CPU seconds per GiB | 0.50 | 1.00 | failed |");
  expect(reached).toContain("skipped bun-minimal: not there");
  expect(reached).toContain("**failed** tcp-up, nginx: exited with 1");
  const missed = renderMarkdown(
    reportOf(
      new Map([
        ["bunnel", rounds(0.7)],
        ["haproxy", rounds(1)],
      ]),
    ),
  );
  expect(missed).toContain("0.70 ✗");
});

test("a speed that is to be reached is a least, not a most", () => {
  const rate = { ...CPU, label: "GiB per second", toReach: { kind: "ratio", atLeast: 1.2 } } as const;
  const table = (value: number): string => {
    const samples = new Map([
      ["bunnel", rounds(value)],
      ["haproxy", rounds(1)],
    ]);
    const figures = [gatherFigure(rate, samples, "haproxy")];
    return renderMarkdown({ ...reportOf(samples), workloads: [{ name: "two-hop-up", about: "two", figures }] });
  };
  expect(table(1.3)).toContain("| two-hop-up | GiB per second | ≥ 1.20 | 1.30 ✓ |");
  expect(table(1.1)).toContain("1.10 ✗");
});

test("results go between the markers and nowhere else", () => {
  const page = `# Bench\n\n${RESULTS_START}\nold\n${RESULTS_END}\n\nafter\n`;
  expect(replaceResults(page, "new\n")).toBe(`# Bench\n\n${RESULTS_START}\n\nnew\n\n${RESULTS_END}\n\nafter\n`);
  expect(replaceResults("# Bench\n", "new")).toBeUndefined();
});
