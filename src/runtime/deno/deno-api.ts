// The part of Deno's own API that is used here, typed: the project's types are those of Bun, and Deno's stand in the way of them.

/** What listens. */
interface DenoListener {
  readonly addr: { readonly port: number };
  close(): void;
}

/** What answers over HTTP. */
export interface DenoHttpServer {
  readonly addr: { readonly port?: number };
  shutdown(): Promise<void>;
}

/** How requests are answered. */
export interface DenoServeOptions {
  handler(request: Request): Promise<Response>;
  onError(): Response;
  onListen(): void;
}

interface DenoApi {
  readonly pid: number;
  readonly version: { readonly deno: string };
  listen(options: { readonly hostname: string; readonly port: number }): DenoListener;
  serve(
    options: DenoServeOptions & ({ readonly path: string } | { readonly hostname: string; readonly port: number }),
  ): DenoHttpServer;
  createHttpClient(options: { readonly caCerts: readonly string[] }): { close(): void };
}

/** Deno. */
export const deno: DenoApi = (globalThis as unknown as { readonly Deno: DenoApi }).Deno;
