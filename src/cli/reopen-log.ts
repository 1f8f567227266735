// SIGUSR1: whoever rotates logs has given the access log another name, and what comes from now on belongs into a new file. This process opens it, as it
// may have rights that the workers have given up, and hands it to all that write lines.

import { messageOf } from "../base/errors.ts";
import type { DataPlane } from "../control/data-plane.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Log } from "../telemetry/log.ts";
import type { AccessLogOutput } from "./access-log-output.ts";

/** Who writes lines, and where to. */
export interface ReopenedLog {
  readonly runtime: Pick<Runtime, "openLogFile">;
  readonly log: Pick<Log, "info" | "warn" | "error">;
  /** As in the config: a path, or stdout, stderr, off. */
  readonly output: string;
  /** Of this process, if it relays itself. */
  readonly own: AccessLogOutput | null;
  readonly plane: Pick<DataPlane, "passLogFile">;
}

/** Opens the file of the access log anew. When that cannot be, lines go on to the one that is open, and it is said why. */
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
