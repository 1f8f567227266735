// SIGUSR1: the access log was renamed by log rotation, and is to be reopened under its name. This process opens the file, as it may have
// rights that the workers have dropped, and passes it to all processes that write lines.

import { messageOf } from "../base/errors.ts";
import type { DataPlane } from "../control/data-plane.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Log } from "../telemetry/log.ts";
import type { AccessLogOutput } from "./access-log-output.ts";

/** What is needed to reopen the log. */
export interface ReopenedLog {
  readonly runtime: Pick<Runtime, "openLogFile">;
  readonly log: Pick<Log, "info" | "warn" | "error">;
  /** As in the config: a path, or stdout, stderr, off. */
  readonly output: string;
  /** Of this process, if it relays itself. */
  readonly own: AccessLogOutput | null;
  readonly plane: Pick<DataPlane, "passLogFile">;
}

/** Reopens the access log. When that fails, the reason is logged, and lines still go to the old file. */
export function reopenLog({ runtime, log, output, own, plane }: ReopenedLog): void {
  if (!output.includes("/")) {
    log.warn({ output }, "SIGUSR1: there is nothing to reopen, as the access log goes to no file");
    return;
  }
  try {
    const file = runtime.openLogFile(output);
    plane.passLogFile(file);
    if (own === null) file.close();
    else own.moveTo(file);
    log.info({ file: output }, "the access log was reopened");
  } catch (thrown) {
    const problem = messageOf(thrown);
    log.error({ problem }, "the access log was not reopened: lines go on to the file that is open");
  }
}
