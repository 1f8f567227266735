// HTTP on Deno: Deno.serve, bound with the manners of listen.ts. One process has the address: there is no successor to share it with.

import { chmodSync, mkdtempSync, renameSync, rmSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import type { Address } from "../../base/address.ts";
import { formatAddress } from "../../base/address.ts";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import type { Http, HttpServer, ServeHttpOptions } from "../http.ts";
import { fetch } from "../node/http-client.ts";
import { type DenoHttpServer, deno } from "./deno-api.ts";
import { cannotListen, fileAt, probe } from "./listen.ts";

/** See runtime/http.ts. */
export const http: Http = { serve, fetch };

function serve(options: ServeHttpOptions): HttpServer {
  const { address } = options;
  if (options.tls) throw new ProxyError("ENOTSUP", `cannot listen on ${formatAddress(address)} with TLS on Deno`);
  if (address.kind === "unix" && address.path.startsWith("@"))
    throw new ProxyError(
      "EINVAL",
      `cannot listen on ${formatAddress(address)}: every user could reach an abstract socket; use a path`,
    );
  const wanted = address.kind === "tcp" && address.port === 0 ? address : probe(address);
  try {
    return start(options, wanted);
  } catch (thrown) {
    throw cannotListen(address, codeOf(thrown) || messageOf(thrown));
  }
}

function start({ handle, maxBodyBytes }: ServeHttpOptions, address: Address): HttpServer {
  const cut = Promise.withResolvers<Response>();
  const options = {
    onListen: () => {},
    handler: async (request: Request): Promise<Response> => {
      const whole = await withWholeBody(request, maxBodyBytes);
      return whole === null ? new Response(null, { status: 413 }) : await Promise.race([handle(whole), cut.promise]);
    },
    onError: () => new Response(null, { status: 500 }),
  };
  let server: DenoHttpServer | null = null;
  let file = "";
  if (address.kind === "unix")
    file = placePrivately(address.path, (path) => {
      server = deno.serve({ ...options, path });
    });
  else server = deno.serve({ ...options, hostname: address.host, port: address.port });
  let closing: Promise<void> | null = null;
  const stop = async (patienceMs: number): Promise<void> => {
    if (file !== "" && address.kind === "unix" && fileAt(address.path) === file) unlinkQuietly(address.path);
    // Deno has nothing that ends an answer under way. One whose body breaks is cut.
    const timer = setTimeout(() => cut.resolve(new Response(brokenBody())), patienceMs);
    await server?.shutdown();
    clearTimeout(timer);
  };
  return {
    address: wantedAddress(address, server),
    close(patienceMs) {
      closing ??= stop(patienceMs);
      return closing;
    },
  };
}

/** Puts a socket file in its place with its mode: until it has that, nobody else can come near it. */
function placePrivately(path: string, listenAt: (path: string) => void): string {
  const room = mkdtempSync(`${dirname(path)}/.b`);
  try {
    const inside = `${room}/s`;
    listenAt(inside);
    chmodSync(inside, 0o600);
    renameSync(inside, path);
  } finally {
    rmSync(room, { recursive: true, force: true });
  }
  return fileAt(path);
}

function wantedAddress(address: Address, server: DenoHttpServer | null): Address {
  return address.kind === "tcp" ? { ...address, port: server?.addr.port ?? address.port } : address;
}

function brokenBody(): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => controller.error(new Error("closed")) });
}

/** A request whose body has come, or null when it is too long. */
async function withWholeBody(request: Request, maxBytes: number): Promise<Request | null> {
  if (request.body === null) return request;
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body) {
    length += chunk.length;
    if (length > maxBytes) return null;
    chunks.push(chunk);
  }
  const { url, method, headers } = request;
  return new Request(url, { method, headers, body: new Blob(chunks as Uint8Array<ArrayBuffer>[]) });
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Already gone, which is all that was wanted.
  }
}
