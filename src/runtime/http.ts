// The part of the seam that speaks HTTP: for the admin API and the commands that ask it. Requests and responses are those of the web's standards.

import type { Address } from "../base/address.ts";

export interface ServeHttpOptions {
  /** A "tcp" host must be an IP literal; port 0 takes a free one. */
  readonly address: Address;
  /**
   * Whether another process of this user that serves the address by `serveHttp` is about to leave it to us: then both have it until the other
   * closes. Whoever else is there stands in the way all the same, except at a socket file, which is taken. Default false.
   */
  readonly takeOver?: boolean;
  /** A request body that is longer is refused (413). */
  readonly maxBodyBytes: number;
  /** Answers a request. One that throws or rejects is answered with an empty 500. */
  handle(request: Request): Response | Promise<Response>;
}

/** An address that is served. */
export interface HttpServer {
  /** As bound: the port is the true one when 0 was asked for. */
  readonly address: Address;
  /**
   * Takes no more requests. Those that are being answered may go on for `patienceMs`, and are cut then. A socket file is removed, unless
   * another one has taken its place. Harmless when repeated.
   */
  close(patienceMs: number): Promise<void>;
}

export interface FetchHttpOptions {
  readonly address: Address;
  readonly method: "GET" | "POST" | "DELETE";
  /** With its slash: `/healthz`. */
  readonly path: string;
  readonly timeoutMs: number;
}

/** An answer, whole. */
export interface HttpAnswer {
  readonly status: number;
  /** "" when there is none. */
  readonly contentType: string;
  readonly body: string;
}

/** HTTP/1.1 without TLS. */
export interface Http {
  /**
   * Binds an address and answers requests there. A socket file is for this user alone (mode 0600); one that nobody answers at is replaced. Throws
   * ProxyError (EADDRINUSE, EACCES, EADDRNOTAVAIL …) with a message that names the address.
   */
  serve(options: ServeHttpOptions): HttpServer;
  /** Asks, straight and never through an HTTP proxy of the environment. Rejects with a ProxyError (ECONNREFUSED, ENOENT, ETIMEDOUT …). */
  fetch(options: FetchHttpOptions): Promise<HttpAnswer>;
}
