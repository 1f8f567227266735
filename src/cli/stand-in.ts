// The process that was started first stays when others have taken its place, for whoever knows it by its id: a shell, a container, a script. It passes
// signals on, and ends as the daemon ends. Under a service manager it is not needed: that is told who the service is.

import { isDaemon } from "../control/pid-file.ts";
import type { Processes, Runtime } from "../runtime/runtime.ts";
import type { CountTable, SupervisorNote } from "../snapshot/counts.ts";

/** How often is looked whether the daemon has ended. */
const LOOK_MS = 100;
/** A terminal signals a whole group of processes: so long is waited for the daemon to have heard of it by itself. */
const HEARSAY_MS = 100;

export type PassedSignal = "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR1" | "SIGUSR2";

export interface StandInOptions {
  readonly processes: Pick<Processes, "isAlive" | "signal">;
  readonly commandLine: Runtime["commandLine"];
  /** Where supervisors note who they are. */
  readonly counts: Pick<CountTable, "supervisor">;
  /** Our own process id. */
  readonly pid: number;
  /** The process that has taken our place. It may note itself in another table, if it is of another version. */
  readonly successor: number;
}

/** Stands in for a daemon that is another process. */
export class StandIn {
  readonly #options: StandInOptions;
  #wasToldToStop = false;

  constructor(options: StandInOptions) {
    this.#options = options;
  }

  /** Passes a signal on. */
  signalled(signal: PassedSignal): void {
    const isStop = signal === "SIGTERM" || signal === "SIGINT";
    if (!isStop || this.#wasToldToStop) this.#pass(signal);
    else
      setTimeout(() => {
        if (this.#daemon.state === "serving") this.#pass(signal);
      }, HEARSAY_MS);
    this.#wasToldToStop ||= isStop;
  }

  /** The exit code of the daemon, once it has ended; 1 when it was killed. */
  async ended(): Promise<number> {
    for (;;) {
      const { pid, state, exitCode } = this.#daemon;
      if (!this.#options.processes.isAlive(pid)) return state === "ended" ? exitCode : 1;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  #pass(signal: PassedSignal): void {
    const { processes, commandLine } = this.#options;
    const { pid } = this.#daemon;
    // The note lies in memory that workers can write, and they may have less rights than we: nobody is signalled on their word alone.
    if (isDaemon(commandLine(pid))) processes.signal(pid, signal);
  }

  get #daemon(): SupervisorNote {
    const { counts, pid, successor } = this.#options;
    const note = counts.supervisor;
    return note.pid === pid ? { pid: successor, state: "serving", exitCode: 0 } : note;
  }
}
