// `bunnel bench`: a quick look at what bunnel costs on this machine beside the proxies that are installed here. The lab that measures is no part of the
// daemon: it is in the folder bench/ of the repository, and is loaded from there.

import type { Command } from "commander";
import type { Files } from "../runtime/files.ts";

const LAB = new URL("../../bench/bench.ts", import.meta.url);
/** Some three minutes: enough rounds for a spread, and a figure of each kind. */
const QUICK_LOOK = [
  "--quick",
  "--rounds",
  "3",
  "--minutes",
  "3",
  "--only",
  "tcp-up,mtls-down,keep-alive,short,handshake,ping",
];
const EXIT_FAILED = 1;

export interface BenchIo {
  readonly files: Pick<Files, "exists">;
  /** A line, without its end, for standard error. */
  err(line: string): void;
}

interface Lab {
  main(args: readonly string[]): Promise<number>;
}

/** Runs the lab with these arguments, or has a quick look when there are none. Exit code: the lab's; 1 where there is no lab. */
export async function bench(args: readonly string[], io: BenchIo): Promise<number> {
  if (LAB.protocol !== "file:" || !io.files.exists(decodeURIComponent(LAB.pathname))) {
    io.err("bench: the lab is not installed here: run this from a checkout of the repository, which has it in bench/");
    return EXIT_FAILED;
  }
  const lab: Lab = await import(LAB.href);
  return lab.main(["--plain", ...(args.length === 0 ? QUICK_LOOK : args)]);
}

/** Puts `bench` under `program`; `finish` gets its exit code. */
export function registerBench(program: Command, io: BenchIo, finish: (exitCode: number) => void): void {
  program
    .command("bench")
    .description(
      "measure bunnel beside the proxies that are installed here, in some three minutes (--list: what there is)",
    )
    .argument("[options...]", "options of the lab instead of the quick look; see bench/README.md")
    .allowUnknownOption()
    .action(async (args: readonly string[]) => finish(await bench(args, io)));
}
