// A connection that has to wait for nothing but time, before its relay. It may end meanwhile.

import type { Connection } from "./connection.ts";

/** Resolves after so many ms, or when the connection ends. */
export function pauseFor(connection: Connection, ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const finish = (): void => {
    connection.onHeld = null;
    connection.onDeadline = null;
    resolve();
  };
  connection.onDeadline = finish;
  // Called at the end of a connection too, whose timer does not fire any more; and when the client sends something, which is kept.
  connection.onHeld = () => {
    if (connection.ended) finish();
  };
  connection.clock.arm(connection.timer, ms);
  return promise;
}
