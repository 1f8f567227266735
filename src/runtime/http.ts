// The part of the seam that speaks HTTP: for the admin API and the commands that ask it. Requests and responses are those of the web's standards.

import type { Address } from "../base/address.ts";

/** What a server shows and demands, TLS 1.2 or later, as PEM texts. */
export interface HttpServerTls {
  readonly chainPem: string;
  readonly keyPem: string;
  /** One certificate each. When there are any, nobody is answered who does not show a certificate that they vouch for. */
  readonly clientCaPem: readonly string[];
}

/** Who is asked, and what is shown. */
export interface HttpClientTls {
  /** DER of the one certificate that the server has to show; nothing is sent to any other one. */
  readonly serverCertificate: Uint8Array;
  /** PEM texts of what we show; both "" when that is nothing. */
  readonly chainPem: string;
  readonly keyPem: string;
}

export interface ServeHttpOptions {
  /** A "tcp" host must be an IP literal; port 0 takes a free one. */
  readonly address: Address;
  /**
   * Whether to share the address with a process of this user that serves it by `serveHttp` and is about to close: both have it until then. Any
   * other owner of the address is still an error, except of a socket file, which is replaced. Default false.
   */
  readonly takeOver?: boolean;
  /** Null: plain. Not on a unix socket. Default null. */
  readonly tls?: HttpServerTls | null;
  /** A request body that is longer is refused (413). */
  readonly maxBodyBytes: number;
  /** A client of a "tcp" address is closed when it sends no request, or does not read its answer, for this long. Default 30. */
  readonly idleTimeoutSeconds?: number;
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
  /** Beside Host. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Null: plain. Default null. */
  readonly tls?: HttpClientTls | null;
  readonly timeoutMs: number;
}

/** An answer, whole. */
export interface HttpAnswer {
  readonly status: number;
  /** "" when there is none. */
  readonly contentType: string;
  readonly body: string;
}

/** HTTP/1.1. */
export interface Http {
  /**
   * Binds an address and answers requests there. A socket file is for this user alone (mode 0600); one that nobody answers at is replaced. Throws
   * ProxyError (EADDRINUSE, EACCES, EADDRNOTAVAIL …) with a message that names the address, and BAD_TLS_MATERIAL.
   */
  serve(options: ServeHttpOptions): HttpServer;
  /** Asks, straight and never through an HTTP proxy of the environment. Rejects with a ProxyError (ECONNREFUSED, ENOENT, ETIMEDOUT …, EBADPEER when it is not who is meant). */
  fetch(options: FetchHttpOptions): Promise<HttpAnswer>;
}
