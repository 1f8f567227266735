// The lab measures: a contender that wastes CPU time on purpose is seen beyond the noise, CPU time of processes that end is counted,
// one that fails leaves its log and no number, and one that is not installed is named.
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareRuns } from "../../../bench/compare.ts";
import type { Contender } from "../../../bench/contenders/contender.ts";
import { minimalBun } from "../../../bench/contenders/relays.ts";
import { type LabResult, runLab } from "../../../bench/lab.ts";
import { Processes } from "../../../bench/processes.ts";
import { type Run, ratiosOf, resultOf, summarise } from "../../../bench/results.ts";
import { renderFailures } from "../../../bench/tables.ts";
import { costFigures, costOf, type Subject, type Workload } from "../../../bench/workloads/workload.ts";
import { missingPrograms } from "../../support/programs.ts";
import { CPU, runOf } from "./made-up.ts";

const ROUND_TRIPS = 400;
const BUSY_MICROSECONDS = 250;

/** Round trips of a few bytes with an echo in this process. */
const echo: Workload = {
  name: "echo",
  about: "round trips",
  meaning: "",
  figures: [CPU],
  listeners: ["ping"],
  programs: [],
  measure: async (subject, bench) => {
    using server = Bun.listen({
      hostname: "127.0.0.1",
      port: bench.ports.ping,
      socket: { data: (socket, chunk) => void socket.write(chunk) },
    });
    const { cpu } = costFigures(await costOf(subject, () => roundTrips(subject)), ROUND_TRIPS, 1e6);
    server.stop(true);
    return { cpu: cpu ?? Number.NaN };
  },
};

async function roundTrips(subject: Subject): Promise<void> {
  const done = Promise.withResolvers<void>();
  let left = ROUND_TRIPS;
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: subject.port("ping"),
    socket: {
      data: (opened, chunk) => {
        left -= 1;
        if (left === 0) done.resolve();
        else opened.write(chunk);
      },
      close: () => done.reject(new Error("the connection was closed")),
    },
  });
  socket.write("ping");
  await done.promise;
  socket.end();
}

const slowed: Contender = {
  ...minimalBun,
  name: "slowed",
  prepare: (input) =>
    minimalBun.prepare(input).map(([program = "", script = "", options = "{}"]) => {
      return [program, script, JSON.stringify({ ...JSON.parse(options), busyMicroseconds: BUSY_MICROSECONDS })];
    }),
};

const contender = (name: string, command: readonly string[]): Contender => ({
  ...minimalBun,
  name,
  forks: true,
  prepare: () => [command],
});

async function lab(contenders: readonly Contender[], rounds: number): Promise<LabResult> {
  const folder = mkdtempSync(join(tmpdir(), "bunnel-lab-"));
  const processes = new Processes(folder);
  try {
    const options = {
      folder,
      rounds,
      scale: 0.05,
      workloads: [echo],
      contenders,
      direct: false,
      profiles: false,
      progress: () => {},
    };
    return await runLab(options, processes);
  } finally {
    await processes.close();
    rmSync(folder, { recursive: true });
  }
}

const missing = missingPrograms("nginx", "openssl");
const title = (text: string): string => (missing === "" ? text : `${text} (skipped: ${missing})`);

test.skipIf(missing !== "")(
  title("a contender that wastes CPU time on each chunk is seen, in the table and beside an earlier run"),
  async () => {
    const { workloads, failures } = await lab([minimalBun, slowed], 3);
    expect(failures).toEqual([]);
    const figure = workloads[0]?.figures[0];
    if (figure === undefined) throw new Error("nothing was measured");
    // Two chunks of each round trip go through the proxy. Half of what they must cost is far beyond what the proxy costs.
    const wasted = summarise(resultOf(figure, "slowed")?.samples ?? [])?.min;
    expect(wasted).toBeGreaterThan(BUSY_MICROSECONDS);
    expect(summarise(ratiosOf(figure, "slowed", "bun-minimal"))?.min).toBeGreaterThan(1.5);
    // A machine that runs tests is busy; the mark for that is another test's.
    const runWith = (name: string): Run => runOf({ bunnel: resultOf(figure, name)?.samples ?? [] }, { noise: [] });
    const verdict = (before: string, after: string) =>
      compareRuns(runWith(before), runWith(after)).map((one) => one.verdict);
    expect(verdict("bun-minimal", "slowed")).toEqual(["worse"]);
    expect(verdict("slowed", "bun-minimal")).toEqual(["better"]);
  },
  15_000,
);

test.skipIf(missing !== "")(
  title("who cannot run leaves its log and no number, and who is not installed is named"),
  async () => {
    const broken = contender("broken", ["sh", "-c", "echo line 7 of the config is wrong >&2; exit 3"]);
    const absent = { ...minimalBun, name: "absent", missing: () => "absent is not installed" };
    const { workloads, failures, skipped } = await lab([broken, absent, minimalBun], 1);
    expect(workloads[0]?.figures[0]?.contenders.map((result) => result.contender)).toEqual(["bun-minimal"]);
    expect(failures).toMatchObject([{ contender: "broken", message: expect.stringContaining("exited with 3") }]);
    expect(renderFailures({ ...runOf({}), failures })[0]).toContain("line 7 of the config is wrong");
    expect(skipped).toEqual([{ what: "absent", why: "absent is not installed" }]);
  },
  15_000,
);
