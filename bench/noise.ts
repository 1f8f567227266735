// What else the machine did while something was measured. A round is busy when programs that are not the lab's used much of the
// CPU time, when a hypervisor took it away, or when the same load without any proxy cost another amount at the end of the round
// than at its beginning.
import { type MachineTicks, machineTicks, ownTicks } from "./measure.ts";

/** Shares of all CPU time, and the drift of the yardstick, above which a round is busy. */
const NOISE_LIMITS = { others: 0.05, stolen: 0.02, drift: 0.15 } as const;
/** A workload is busy when more than this share of its rounds is. */
const BUSY_ROUNDS_LIMIT = 1 / 3;

/** What a round was disturbed by. */
export interface Noise {
  /** CPU time of other programs, as a share of all CPU time of the machine. */
  readonly others: number;
  /** The same for what a hypervisor took away. */
  readonly stolen: number;
  /** By which share the yardstick, a stream without a proxy, was slower or faster last than first. Absent where it could not be measured. */
  readonly drift?: number;
}

/** The machine's and the lab's own CPU time at a moment. */
export interface NoiseMark {
  readonly machine: MachineTicks;
  readonly own: number;
}

/** Marks a moment, for `noiseSince`. */
export function noiseMark(): NoiseMark {
  return { machine: machineTicks(), own: ownTicks() };
}

/** What disturbed the machine since `mark`; `first` and `last` are seconds that the yardstick took. */
export function noiseSince(mark: NoiseMark, yardstick?: { readonly first: number; readonly last: number }): Noise {
  return noiseBetween(mark, noiseMark(), yardstick);
}

/** What disturbed the machine between two moments. */
export function noiseBetween(
  before: NoiseMark,
  after: NoiseMark,
  yardstick?: { readonly first: number; readonly last: number },
): Noise {
  const total = Math.max(1, after.machine.total - before.machine.total);
  const others = Math.max(0, after.machine.busy - before.machine.busy - (after.own - before.own));
  const noise = { others: others / total, stolen: (after.machine.stolen - before.machine.stolen) / total };
  if (yardstick === undefined) return noise;
  return { ...noise, drift: Math.abs(yardstick.last / yardstick.first - 1) };
}

/** Whether a round was disturbed by more than `NOISE_LIMITS`. */
export function isBusyRound({ others, stolen, drift = 0 }: Noise): boolean {
  return others > NOISE_LIMITS.others || stolen > NOISE_LIMITS.stolen || drift > NOISE_LIMITS.drift;
}

/** Whether too many of these rounds were disturbed for their figures to be trusted. */
export function isBusy(rounds: readonly Noise[]): boolean {
  return rounds.filter(isBusyRound).length > rounds.length * BUSY_ROUNDS_LIMIT;
}

/** The thresholds in words, for whoever reads the mark. */
export const NOISE_RULE =
  `a round is busy when other programs used more than ${NOISE_LIMITS.others * 100} % of all CPU time, when more than ` +
  `${NOISE_LIMITS.stolen * 100} % was stolen, or when a stream without a proxy took ${NOISE_LIMITS.drift * 100} % more or less ` +
  "time at its end than at its beginning; a workload is, when more than a third of its rounds were";
