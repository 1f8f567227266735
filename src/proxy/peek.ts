// Seeing the first bytes without taking them: they stay pending on the leg, and the next step (the TLS handshake, the upstream) gets all
// of them. Only a PROXY header is taken away, because it is meant for us.

import { parseClientHello } from "../protocol/client-hello.ts";
import { type ProxyHeader, parseProxyHeader } from "../protocol/proxy-protocol.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import type { Hello } from "./router.ts";

/** What the first bytes are: a ClientHello, or (null) something else, with the reason for the log. */
export interface PeekedHello {
  readonly hello: Hello | null;
  readonly detail: string;
}

/** Waits for the PROXY header and takes it off the leg. */
export async function peekProxyHeader(
  connection: Connection,
): Promise<Extract<ProxyHeader, { kind: "header" }> | Ending> {
  const header = await firstBytes(connection, (bytes) => {
    const parsed = parseProxyHeader(bytes);
    if (parsed.kind === "incomplete") return bytes.length + 1;
    return parsed.kind === "header" ? parsed : new Ending("malformed_header", parsed.reason);
  });
  if (!(header instanceof Ending)) connection.downstream.consume(header.lengthBytes);
  return header;
}

/** Waits until it is known whether the client speaks TLS and what its ClientHello asks for. */
export function peekHello(connection: Connection): Promise<PeekedHello | Ending> {
  return firstBytes(connection, (bytes) => {
    const parsed = parseClientHello(bytes);
    switch (parsed.kind) {
      case "incomplete":
        return parsed.atLeastBytes;
      case "hello":
        return { hello: parsed, detail: "" };
      case "not_tls":
        return { hello: null, detail: "the first bytes are no TLS record" };
      default:
        return { hello: null, detail: parsed.reason };
    }
  });
}

/**
 * Calls `decide` with all bytes that are pending until it answers, and not before there are as many as it last said it needs: parsing a
 * stream of single bytes must not take quadratic time. An Ending when the client leaves or `peek_timeout` passes first. How many
 * bytes there can be is the matter of `decide`: a parser has a limit of its own.
 */
function firstBytes<T extends object>(
  connection: Connection,
  decide: (bytes: Uint8Array) => T | Ending | number,
): Promise<T | Ending> {
  const leg = connection.downstream;
  const { promise, resolve } = Promise.withResolvers<T | Ending>();
  const finish = (answer: T | Ending): void => {
    connection.onHeld = null;
    connection.onDeadline = null;
    connection.clock.disarm(connection.timer);
    resolve(answer);
  };
  let neededBytes = 1;
  connection.onHeld = () => {
    if (leg.pendingBytes >= neededBytes && !connection.ended) {
      const answer = decide(leg.joinPending());
      if (typeof answer !== "number") return finish(answer);
      neededBytes = answer;
    }
    if (leg.readEnded || connection.ended) finish(new Ending("downstream_left", `after ${leg.pendingBytes} bytes`));
  };
  connection.onDeadline = () => finish(new Ending("peek_timeout", `after ${leg.pendingBytes} bytes`));
  // One deadline for both peeks, or a client would have the time twice.
  const dueMs = connection.acceptedMs + connection.listener.spec.peekTimeoutMs;
  connection.clock.arm(connection.timer, Math.max(0, dueMs - connection.clock.nowMs));
  // Behind a PROXY header the ClientHello may be here already.
  connection.onHeld();
  return promise;
}
