// The admin API at its address. What it answers is app.ts's, which is loaded only where it is served: neither workers nor commands need it.

import type { Address } from "../base/address.ts";
import type { Control } from "../control/control.ts";
import type { Runtime } from "../runtime/runtime.ts";

export interface AdminOptions {
  readonly address: Address;
  readonly control: Control;
  readonly runtime: Pick<Runtime, "http" | "files" | "sha256">;
  /** Whether a process that has the address is about to leave it to us. Default false. */
  readonly takeOver?: boolean;
  /** Tells of defects. */
  onDefect(thrown: unknown): void;
}

/** The API, while it is served. */
export interface Admin {
  /** As bound. */
  readonly address: Address;
  /** Takes no more requests, and gives those that are being answered a second. */
  close(): Promise<void>;
}

const PATIENCE_MS = 1000;

/** Serves the API. Rejects with a ProxyError (EADDRINUSE …) that names the address when it cannot be had. */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const { address, control, runtime, takeOver = false, onDefect } = options;
  const { adminApp, MAX_BODY_BYTES } = await import("./app.ts");
  const { EventStreams } = await import("./events.ts");
  const streams = new EventStreams(control, onDefect);
  const app = adminApp({ control, runtime, kind: address.kind, streams, onDefect });
  const server = runtime.http.serve({
    address,
    takeOver,
    // The app tells of it in words; this is for what it does not look at.
    maxBodyBytes: 4 * MAX_BODY_BYTES,
    handle: (request) => app.fetch(request),
  });
  const close = async (): Promise<void> => {
    streams.close();
    await server.close(PATIENCE_MS);
  };
  return { address: server.address, close };
}
