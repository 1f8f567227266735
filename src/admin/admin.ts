// The admin API at its address. What it answers is app.ts's, which is loaded only where it is served: neither workers nor commands need it.

import type { Address } from "../base/address.ts";
import type { AdminAccess } from "../control/admin-access.ts";
import type { Control } from "../control/control.ts";
import type { Runtime } from "../runtime/runtime.ts";

export interface AdminOptions {
  readonly address: Address;
  /** Who is answered. */
  readonly access: AdminAccess;
  readonly control: Control;
  readonly runtime: Pick<Runtime, "http" | "files" | "sha256">;
  /** Whether a process that has the address is about to leave it to us. Default false. */
  readonly takeOver?: boolean;
  /** Called with what a handler has thrown: a defect. */
  onDefect(thrown: unknown): void;
}

/** The API, while it is served. */
export interface Admin {
  /** As bound. */
  readonly address: Address;
  /** Reopens it at the same address with other access rules; requests under way have a second to finish. Rejects as `startAdmin` does. Does nothing once closed. */
  reopen(access: AdminAccess): Promise<void>;
  /** Takes no more requests, and gives those that are being answered a second. */
  close(): Promise<void>;
}

const PATIENCE_MS = 1000;

/** Serves the API. Rejects with a ProxyError (EADDRINUSE …) that names the address when it cannot be had. */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  let served = await serve(options);
  let isClosed = false;
  /** One after the other: each closes the one before. */
  let reopening: Promise<unknown> = Promise.resolve();
  const { address } = served;
  const replace = async (access: AdminAccess): Promise<void> => {
    // Somebody else may have the address by now.
    if (isClosed) return;
    const before = served;
    served = await serve({ ...options, address, access, takeOver: true });
    await before.close();
  };
  return {
    address,
    reopen(access) {
      const reopened = reopening.then(() => replace(access));
      reopening = reopened.catch(() => {});
      return reopened;
    },
    async close() {
      isClosed = true;
      await reopening;
      await served.close();
    },
  };
}

async function serve(options: AdminOptions): Promise<Pick<Admin, "address" | "close">> {
  const { address, access, control, runtime, takeOver = false, onDefect } = options;
  const { adminApp, MAX_BODY_BYTES } = await import("./app.ts");
  const { gateFor } = await import("./gate.ts");
  const { EventStreams } = await import("./events.ts");
  const streams = new EventStreams(control, onDefect);
  const app = adminApp({ control, runtime, gate: gateFor(address, access, runtime), streams, onDefect });
  const server = runtime.http.serve({
    address,
    takeOver,
    tls: access.tls,
    // The app answers with a clear error; this limit is for requests whose body it does not read.
    maxBodyBytes: 4 * MAX_BODY_BYTES,
    handle: (request) => app.fetch(request),
  });
  const close = async (): Promise<void> => {
    streams.close();
    await server.close(PATIENCE_MS);
  };
  return { address: server.address, close };
}
