// An upgrade: the program on the disk is started as a successor and handed the listening sockets and the counts. It starts workers of its own from
// the config on the disk; only when those accept does the old one stop accepting. A successor that fails before that is ended, and nothing has changed.

import { ProxyError } from "../base/errors.ts";
import type { BoundSocket, ChildProcess, Processes, SharedMemory } from "../runtime/runtime.ts";
import type { HandOver, NotTakenOver, TakenOver } from "../snapshot/messages.ts";

/** How long a successor may take until it accepts. */
const SUCCESSION_MS = 60_000;

/** What is handed over. */
export interface Estate {
  readonly queues: ReadonlyMap<string, BoundSocket>;
  /** The table of counts. */
  readonly memory: SharedMemory;
  readonly slots: ReadonlyMap<string, number>;
  readonly meters: readonly (readonly [string, number])[];
  /** Of the snapshot in force. */
  readonly generation: number;
}

/** A successor that has taken over. */
export interface Successor {
  readonly pid: number;
  /** The addresses whose listening sockets it accepts from (`placeOf`). */
  readonly places: readonly string[];
}

/** How a successor is started. */
export interface SuccessorStart {
  readonly args: readonly string[];
  /** Added to our own environment: the variables by which it finds the service manager. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whether to make it a child of the service manager, which would otherwise not notice its end. */
  readonly isOrphan: boolean;
}

/**
 * Starts the successor and waits until it accepts. Rejects with a ProxyError EUPGRADE that says why it did not; it has been ended then. `started`
 * is called with the process at once.
 */
export async function handOver(
  processes: Processes,
  { args, environment, isOrphan }: SuccessorStart,
  estate: Estate,
  started: (child: ChildProcess) => void,
): Promise<Successor> {
  const child = isOrphan ? processes.startOrphan(args, environment) : processes.start(args, environment);
  started(child);
  const { promise: accepts, resolve, reject } = Promise.withResolvers<readonly string[]>();
  const { memory, queues, slots, meters, generation } = estate;
  let reason = "";
  child.channel.listen({
    message(received) {
      const message = received as TakenOver | NotTakenOver;
      if (message.kind === "taken over") resolve(message.places ?? [...queues.keys()]);
      else if (message.kind === "not taken over") reason = message.problem;
    },
    end: () => {},
  });
  void child.exited.then((how) => reject(new ProxyError("EUPGRADE", reason || endText(how))));
  const tooLong = setTimeout(() => {
    reject(new ProxyError("EUPGRADE", `it did not accept within ${SUCCESSION_MS / 1000} s`));
    child.kill("SIGKILL");
  }, SUCCESSION_MS);
  const message: HandOver = {
    kind: "hand over",
    queues: [...queues].map(([place, { address }]) => ({ place, address })),
    slots: [...slots],
    meters,
    generation,
  };
  child.channel.send(message, [memory, ...queues.values()]);
  try {
    return { pid: child.pid, places: await accepts };
  } finally {
    clearTimeout(tooLong);
  }
}

function endText({ code, signal }: Awaited<ChildProcess["exited"]>): string {
  if (signal !== null) return `it was ended by ${signal}`;
  return code === null ? "it ended before it accepted" : `it ended with exit code ${code}`;
}

/** The other end of a hand-over. */
export interface Inheritance extends Estate {
  /** Tells the predecessor that we accept from the sockets of these addresses: it stops accepting. */
  accept(places: readonly string[]): void;
  /** Tells the predecessor why we do not take over, before we end. */
  decline(problem: string): void;
}

/** Receives what the predecessor hands over. Rejects with a ProxyError EUPGRADE when there is no predecessor. */
export async function takeOver(processes: Processes): Promise<Inheritance> {
  if (!processes.isChild)
    throw new ProxyError("EUPGRADE", "there is nobody to take over from: a running daemon is upgraded by SIGUSR2");
  const channel = processes.parent();
  const { promise, resolve, reject } = Promise.withResolvers<Inheritance>();
  channel.listen({
    message(received, passed) {
      const { kind, queues, slots, meters = [], generation } = received as HandOver;
      if (kind !== "hand over") return;
      resolve({
        memory: passed.memory(0),
        queues: new Map(queues.map(({ place, address }, index) => [place, passed.socket(index + 1, address)])),
        slots: new Map(slots),
        meters,
        generation,
        accept: (places) => channel.send({ kind: "taken over", places } satisfies TakenOver),
        decline: (problem) => channel.send({ kind: "not taken over", problem } satisfies NotTakenOver),
      });
    },
    // After the hand-over this changes nothing: we serve, and the predecessor's workers drain by themselves.
    end: () => reject(new ProxyError("EUPGRADE", "the program to take over from is gone")),
  });
  return await promise;
}
