// Runs of the lab that never took place.
import type { Noise } from "../../../bench/noise.ts";
import { gatherFigure, type Run } from "../../../bench/results.ts";
import type { Figure } from "../../../bench/workloads/workload.ts";

/** A figure with a goal. */
export const CPU: Figure = {
  key: "cpu",
  label: "CPU seconds per GiB",
  digits: 2,
  compared: true,
  goals: [{ to: "best peer", limit: 0.6 }],
};

/** A round that nothing disturbed. */
export const quiet: Noise = { others: 0.01, stolen: 0, drift: 0.02 };

const ROLES = { bunnel: "ours", haproxy: "peer", nginx: "peer", "bun-minimal": "floor" } as const;

/** A run of one workload, tcp-up, with these samples, one for each round. */
export function runOf(
  samples: Readonly<Record<string, readonly number[]>>,
  { figure = CPU, noise = [quiet] }: { readonly figure?: Figure; readonly noise?: readonly Noise[] } = {},
): Run {
  const byContender = new Map(
    Object.entries(samples).map(([name, values]) => [
      name,
      new Map(values.map((value, round) => [round, { [figure.key]: value }])),
    ]),
  );
  return {
    command: "npm run bench",
    startedAt: "2026-01-01T00:00",
    seconds: 600,
    commit: "abc1234",
    rounds: 3,
    scale: 1,
    machine: { machine: "one" },
    versions: { haproxy: "HAProxy 2.6" },
    contenders: Object.entries(ROLES).map(([name, role]) => ({ name, about: name, role })),
    workloads: [{ name: "tcp-up", about: "bulk", figures: [gatherFigure(figure, byContender)], noise }],
    skipped: [],
    failures: [],
  };
}
