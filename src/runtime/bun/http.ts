// HTTP on Bun: Bun.serve, bound with the manners of bound.ts. The asking side is in http-client.ts.

import { chmodSync, lstatSync, renameSync, unlinkSync } from "node:fs";
import type { Address } from "../../base/address.ts";
import { formatAddress } from "../../base/address.ts";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import type { Http, HttpServer, HttpServerTls, ServeHttpOptions } from "../http.ts";
import { fetch } from "../node/http-client.ts";
import { temporarySocketPath } from "../node/listening.ts";
import { cannotListen } from "./bound.ts";
import { closeDescriptor, openBound, openConnecting, socketAddress } from "./libc.ts";
import { SERVER_OPTIONS, serverContext, TLS12_AEAD_SUITES } from "./tls-contexts.ts";

/** A client that sends no request, or does not read its answer, for this long is closed. */
const IDLE_TIMEOUT_SECONDS = 30;
/** The timeout while a request is being received or answered: the longest that Bun supports. */
const ANSWER_TIMEOUT_SECONDS = 255;
/** On a unix socket Bun cannot distinguish a client that sends nothing from one that waits for its answer. */
const UNIX_IDLE_TIMEOUT_SECONDS = ANSWER_TIMEOUT_SECONDS;
const TLS_1_2 = 0x0303;

/** See runtime/http.ts. */
export const http: Http = { serve, fetch };

function serve(options: ServeHttpOptions): HttpServer {
  return options.address.kind === "tcp" ? serveTcp(options) : serveUnix(options);
}

function serveTcp(options: ServeHttpOptions): HttpServer {
  const { address, takeOver = false } = options;
  if (address.kind !== "tcp") throw new TypeError("a tcp address");
  // The port is opened for sharing, so that a successor can open it too; that must not let us in at somebody else's.
  if (!takeOver && address.port !== 0) {
    const probe = openBound(address);
    if (typeof probe === "string") throw cannotListen(address, probe);
    closeDescriptor(probe);
  }
  const server = start(options, {
    hostname: address.host,
    port: address.port,
    reusePort: true,
    idleTimeout: options.idleTimeoutSeconds ?? IDLE_TIMEOUT_SECONDS,
    ...(options.tls && { tls: tlsOptions(options.tls) }),
  });
  const bound: Address = { kind: "tcp", host: address.host, port: server.port ?? address.port };
  return { address: bound, close: (patienceMs) => stop(server, patienceMs) };
}

function serveUnix(options: ServeHttpOptions): HttpServer {
  const { address, takeOver = false } = options;
  if (address.kind !== "unix") throw new TypeError("a unix address");
  const { path } = address;
  if (options.tls) throw new ProxyError("EINVAL", `cannot listen on ${formatAddress(address)} with TLS`);
  if (path.startsWith("@"))
    throw new ProxyError(
      "EINVAL",
      `cannot listen on ${formatAddress(address)}: every user could reach an abstract socket; use a path`,
    );
  const before = lstatSync(path, { throwIfNoEntry: false });
  if (before !== undefined && (!before.isSocket() || (!takeOver && isAnswered(address))))
    throw cannotListen(address, "EADDRINUSE");
  // When Bun stops, it removes the path that it has bound, even if another process owns it by then. So it binds a temporary path, which is then
  // renamed: atomically, and with its mode set before anybody can connect.
  const temporary = temporarySocketPath(path, process.pid);
  const server = start(options, { unix: temporary, idleTimeout: UNIX_IDLE_TIMEOUT_SECONDS });
  let file: string;
  try {
    chmodSync(temporary, 0o600);
    renameSync(temporary, path);
    file = fileAt(path);
  } catch (thrown) {
    void server.stop(true);
    throw cannotListen(address, codeOf(thrown));
  }
  const close = async (patienceMs: number): Promise<void> => {
    if (file !== "" && fileAt(path) === file) unlinkQuietly(path);
    file = "";
    await stop(server, patienceMs);
  };
  return { address, close };
}

/**
 * Bun would serve in plaintext, or ask nobody for a certificate, when one of these were missing: so all of them are said, and the material has been judged
 * by then. Without tickets nobody resumes a session whose certificate has expired since.
 */
function tlsOptions({ chainPem, keyPem, clientCaPem }: HttpServerTls): Bun.TLSOptions {
  const asksClients = clientCaPem.length > 0;
  const clientAuth = asksClients ? "required" : "none";
  const rest = { clientCrlPem: [], minVersion: "1.2", alpn: [], sessionTickets: false } as const;
  serverContext({ chainPem, keyPem, clientCaPem, clientAuth, ...rest });
  const options = {
    cert: chainPem,
    key: keyPem,
    ...(asksClients && { ca: [...clientCaPem] }),
    requestCert: asksClients,
    rejectUnauthorized: asksClients,
    minVersion: TLS_1_2,
    ciphers: TLS12_AEAD_SUITES,
    secureOptions: SERVER_OPTIONS,
  };
  // Bun knows `minVersion`; its types do not.
  return options as Bun.TLSOptions;
}

type Target =
  | { readonly unix: string; readonly idleTimeout: number }
  | {
      readonly hostname: string;
      readonly port: number;
      readonly reusePort: true;
      readonly idleTimeout: number;
      readonly tls?: Bun.TLSOptions;
    };

function start(options: ServeHttpOptions, target: Target): Bun.Server<undefined> {
  const { address, handle, maxBodyBytes } = options;
  const common = {
    // Else defects are answered with a page that shows our source.
    development: false,
    maxRequestBodySize: maxBodyBytes,
    fetch: async (received: Request, server: Bun.Server<undefined>) => {
      // What is asked for may take its time: a reload waits for name servers.
      server.timeout(received, ANSWER_TIMEOUT_SECONDS);
      try {
        return await handle(received);
      } finally {
        // The timeout set above stays with the connection, so it is reset; sending the answer restarts it.
        server.timeout(received, target.idleTimeout);
      }
    },
    error: () => new Response(null, { status: 500 }),
  };
  const umask = process.umask(0o177);
  try {
    // Bun's types know no `idleTimeout` of a unix socket; Bun does.
    return Bun.serve({ ...common, ...target } as Bun.Serve.Options<undefined>);
  } catch (thrown) {
    throw cannotListen(address, codeOf(thrown) || messageOf(thrown));
  } finally {
    process.umask(umask);
  }
}

async function stop(server: Bun.Server<undefined>, patienceMs: number): Promise<void> {
  const cut = setTimeout(() => void server.stop(true), patienceMs);
  await server.stop(false);
  clearTimeout(cut);
}

/** Whether somebody listens at a socket file. One that we may not ask may well be somebody's. */
function isAnswered(address: Address): boolean {
  const probe = openConnecting(socketAddress(address));
  if (typeof probe === "number") closeDescriptor(probe);
  return probe !== "ECONNREFUSED";
}

/** Device and inode of the socket file; "" when there is none. */
function fileAt(path: string): string {
  const file = lstatSync(path, { throwIfNoEntry: false });
  return file?.isSocket() ? `${file.dev}:${file.ino}` : "";
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Already gone, which is all that was wanted.
  }
}
