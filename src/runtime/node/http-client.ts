// HTTP, the asking side: one request, one answer, on a connection of its own. Written on plain sockets: Bun's fetch asks the proxies of the
// environment also for 127.0.0.1, and with node:http a request may be on its way before it is known who the server is.

import { Buffer } from "node:buffer";
import type { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { formatAddress } from "../../base/address.ts";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import type { FetchHttpOptions, HttpAnswer, HttpClientTls } from "../http.ts";

/** Longest answer that is read; 64 MiB is a status of some 300,000 endpoints. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const HEAD_END = "\r\n\r\n";

/** See runtime/http.ts. */
export async function fetch(options: FetchHttpOptions): Promise<HttpAnswer> {
  const { address, method, path, headers = {}, tls = null, timeoutMs } = options;
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const failed = (code: string, detail = code): void =>
    reject(new ProxyError(code, `${formatAddress(address)} does not answer: ${detail}`));
  const socket = await connect(options, () => {
    if (tls !== null && !isWhoIsMeant(socket, tls)) {
      failed("EBADPEER", "the certificate that is shown there is not the one of admin.tls.cert");
      socket.destroy();
      return;
    }
    const host = address.kind === "tcp" ? formatAddress(address) : "localhost";
    const lines = Object.entries({ Host: host, Connection: "close", ...headers }).map(
      ([name, value]) => `${name}: ${value}`,
    );
    socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join("\r\n")}${HEAD_END}`);
  });
  const chunks: Uint8Array[] = [];
  let length = 0;
  const timer = setTimeout(() => {
    failed("ETIMEDOUT", `nothing came for ${timeoutMs / 1000} s`);
    socket.destroy();
  }, timeoutMs);
  socket.on("data", (chunk: Uint8Array) => {
    chunks.push(chunk);
    length += chunk.length;
    if (length <= MAX_ANSWER_BYTES) return;
    failed("EMSGSIZE", `its answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    socket.destroy();
  });
  socket.on("error", (thrown: Error) => failed(codeOf(thrown) || "ECONNRESET", codeOf(thrown) || messageOf(thrown)));
  socket.on("close", () => {
    const answer = readAnswer(Buffer.concat(chunks));
    if (answer === null) failed("ECONNRESET");
    else resolve(answer);
  });
  return await promise.finally(() => {
    clearTimeout(timer);
    socket.destroy();
  });
}

/** Only commands ask, and what they need for it takes some memory. */
async function connect({ address, tls = null }: FetchHttpOptions, connected: () => void): Promise<Socket> {
  const where =
    address.kind === "tcp" ? { host: address.host, port: address.port } : { path: socketPath(address.path) };
  if (tls === null) return (await import("node:net")).connect(where, connected);
  const { chainPem, keyPem } = tls;
  const shown = chainPem === "" ? {} : { cert: chainPem, key: keyPem };
  // Who it is, is seen by the certificate itself: nothing is asked of who has signed it.
  return (await import("node:tls")).connect(
    { ...where, ...shown, minVersion: "TLSv1.2", rejectUnauthorized: false },
    connected,
  );
}

function isWhoIsMeant(socket: Socket, { serverCertificate }: HttpClientTls): boolean {
  const shown = (
    socket as unknown as { getPeerX509Certificate(): X509Certificate | undefined }
  ).getPeerX509Certificate();
  return shown !== undefined && Buffer.compare(shown.raw, serverCertificate) === 0;
}

/** Null when it is not whole. */
function readAnswer(bytes: Buffer): HttpAnswer | null {
  const headEnd = bytes.indexOf(HEAD_END);
  const [first = "", ...lines] = bytes.subarray(0, Math.max(headEnd, 0)).toString("latin1").split("\r\n");
  const status = Number(/^HTTP\/1\.[01] (\d{3})\b/.exec(first)?.[1]);
  if (headEnd < 0 || Number.isNaN(status)) return null;
  const fields = new Map(
    lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
  );
  const rest = bytes.subarray(headEnd + HEAD_END.length);
  const body =
    fields.get("transfer-encoding") === "chunked" ? joinChunks(rest) : whole(rest, fields.get("content-length"));
  return body === null ? null : { status, contentType: fields.get("content-type") ?? "", body: body.toString("utf8") };
}

function whole(body: Buffer, announced: string | undefined): Buffer | null {
  if (announced === undefined) return body;
  return body.length < Number(announced) ? null : body.subarray(0, Number(announced));
}

/** RFC 9112, 7.1; null when the last one is not there. */
function joinChunks(bytes: Buffer): Buffer | null {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return null;
    const size = Number.parseInt(bytes.subarray(at, lineEnd).toString("latin1"), 16);
    if (size === 0) return Buffer.concat(chunks);
    const from = lineEnd + 2;
    if (!(size > 0) || from + size > bytes.length) return null;
    chunks.push(bytes.subarray(from, from + size));
    at = from + size + 2;
  }
}

function socketPath(path: string): string {
  return path.startsWith("@") ? `\0${path.slice(1)}` : path;
}
