// The process that was started first stays after an upgrade, for whoever knows the daemon by its PID: a shell, a container, a script. It forwards
// signals, and ends with the exit code of the daemon. Under a service manager it is not needed: that is told the new main PID.

import { isDaemon } from "../control/pid-file.ts";
import type { Processes, Runtime } from "../runtime/runtime.ts";
import type { CountTable, SupervisorNote } from "../snapshot/counts.ts";

/** How often to check whether the daemon has ended. */
const LOOK_MS = 100;
/** How long to wait before forwarding a stop: a terminal signals the whole process group, so the daemon may have got the signal itself. */
const HEARSAY_MS = 100;

export type PassedSignal = "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR1" | "SIGUSR2";

export interface StandInOptions {
  readonly processes: Pick<Processes, "isAlive" | "signal">;
  readonly commandLine: Runtime["commandLine"];
  /** Where supervisors note their PID and state. */
  readonly counts: Pick<CountTable, "supervisor">;
  /** Our own process id. */
  readonly pid: number;
  /** PID of the successor. If it is of another version, its note may be in another table. */
  readonly successor: number;
}

/** Stands in for a daemon that is another process. */
export class StandIn {
  readonly #options: StandInOptions;
  #wasToldToStop = false;

  constructor(options: StandInOptions) {
    this.#options = options;
  }

  /** Forwards a signal to the daemon. */
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
    // The note is in memory that workers can write, and they may be less privileged than we are: check that the PID is a daemon of ours before signalling it.
    if (isDaemon(commandLine(pid))) processes.signal(pid, signal);
  }

  get #daemon(): SupervisorNote {
    const { counts, pid, successor } = this.#options;
    const note = counts.supervisor;
    return note.pid === pid ? { pid: successor, state: "serving", exitCode: 0 } : note;
  }
}
