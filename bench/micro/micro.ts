// What a measurement without sockets is: a name, a budget and a call, or samples where a clock around a call would not tell.

/** One measurement. Each file of this folder gives a list of them as MICRO, in the order in which one process makes them. */
export type Micro = {
  readonly name: string;
  /** Nanoseconds that one may cost, in the median. */
  readonly budget: number;
} & (
  | {
      /** Called as often as mitata finds good. What it gives is looked at, so that no compiler leaves it out. */
      readonly call: () => unknown;
    }
  | {
      /** Nanoseconds of one, several times: CPU time of other threads, or what only a new process can tell. */
      readonly samples: () => Promise<readonly number[]>;
    }
);

/** CPU nanoseconds of this whole process, its threads included, for each of `count` that `work` does; `times` of them. */
export async function cpuSamples(
  { times, count }: { readonly times: number; readonly count: number },
  work: (count: number) => Promise<void>,
): Promise<readonly number[]> {
  const samples: number[] = [];
  // The first one only makes it compile.
  for (let time = -1; time < times; time += 1) {
    const startedAt = process.cpuUsage();
    await work(count);
    const { user, system } = process.cpuUsage(startedAt);
    if (time >= 0) samples.push(((user + system) * 1000) / count);
  }
  return samples;
}
