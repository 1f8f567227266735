// As much of an HTTP/1.1 server (RFC 9112) as the echo endpoints need: it answers every request with its own name. Bytes in, text
// out, no sockets. Requests on one connection are answered in turn, each after its body.

/** Bytes of request line and headers that one request may have. */
export const MAX_HEAD_BYTES = 16 * 1024;

const LATIN1 = new TextDecoder("latin1");
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const REQUEST_LINE = new RegExp(`^(${TOKEN}) \\S+ HTTP/(\\d)\\.(\\d)$`);
const HEADER_LINE = new RegExp(`^(${TOKEN}):[ \\t]*(.*?)[ \\t]*$`);

interface Request {
  readonly method: string;
  readonly keepAlive: boolean;
  readonly bodyBytes: number;
  readonly expectsContinue: boolean;
  /** HTTP/1.0 keeps a connection only when both sides say so. */
  readonly saysKeepAlive: boolean;
}

/** One connection's requests. */
export class EchoHttp {
  /** Set once nothing more will be answered: the connection should end when the last response is out. */
  ended = false;
  readonly #body: string;
  #pending = "";
  #lines: string[] = [];
  #headBytes = 0;
  #request: Request | null = null;
  #bodyLeft = 0;

  constructor(name: string) {
    this.#body = `${name}\n`;
  }

  /** Takes what was read, in any pieces; gives the responses to send, "" when there are none yet. ASCII. */
  receive(bytes: Uint8Array): string {
    let output = "";
    const text = this.#pending + LATIN1.decode(bytes);
    this.#pending = "";
    let at = 0;
    while (!this.ended && at < text.length) {
      if (this.#request !== null) {
        const skipped = Math.min(this.#bodyLeft, text.length - at);
        this.#bodyLeft -= skipped;
        at += skipped;
        if (this.#bodyLeft === 0) output += this.#answer(this.#request);
        continue;
      }
      const lineEnd = text.indexOf("\n", at);
      const length = (lineEnd < 0 ? text.length : lineEnd + 1) - at;
      if (this.#headBytes + length > MAX_HEAD_BYTES)
        return output + this.#refuse("431 Request Header Fields Too Large");
      if (lineEnd < 0) {
        this.#pending = text.slice(at);
        break;
      }
      const line = text.slice(at, text[lineEnd - 1] === "\r" && lineEnd > at ? lineEnd - 1 : lineEnd);
      at = lineEnd + 1;
      output += this.#takeLine(line, length);
    }
    return output;
  }

  #takeLine(line: string, length: number): string {
    // An empty line before a request is left over from the one before it (RFC 9112, 2.2).
    if (line === "" && this.#lines.length === 0) return "";
    if (line !== "") {
      this.#lines.push(line);
      this.#headBytes += length;
      return "";
    }
    const request = parseRequest(this.#lines);
    this.#lines = [];
    this.#headBytes = 0;
    if (typeof request === "string") return this.#refuse(request);
    if (request.bodyBytes === 0) return this.#answer(request);
    this.#request = request;
    this.#bodyLeft = request.bodyBytes;
    return request.expectsContinue ? "HTTP/1.1 100 Continue\r\n\r\n" : "";
  }

  #answer(request: Request): string {
    this.#request = null;
    this.ended = !request.keepAlive;
    const connection = request.keepAlive ? (request.saysKeepAlive ? "keep-alive" : null) : "close";
    return response("200 OK", connection, { body: this.#body, withBody: request.method !== "HEAD" });
  }

  #refuse(status: string): string {
    this.ended = true;
    return response(status, "close", { body: `${status}\n`, withBody: true });
  }
}

/** The request that these lines make, or the status that refuses it. */
function parseRequest(lines: readonly string[]): Request | string {
  const [, method = "", major = "", minor = ""] = REQUEST_LINE.exec(lines[0] ?? "") ?? [];
  if (method === "") return "400 Bad Request";
  if (major !== "1") return "505 HTTP Version Not Supported";
  const headers = new Map<string, string>();
  let hosts = 0;
  for (const line of lines.slice(1)) {
    const [, name = "", value = ""] = HEADER_LINE.exec(line) ?? [];
    if (name === "") return "400 Bad Request";
    const key = name.toLowerCase();
    if (key === "host") hosts++;
    // Repeated fields make a list (RFC 9110, 5.3); a repeated Content-Length then is no number, and is refused below.
    const earlier = headers.get(key);
    headers.set(key, earlier === undefined ? value : `${earlier}, ${value}`);
  }
  const isVersion10 = minor === "0";
  if (hosts > 1 || (hosts === 0 && !isVersion10)) return "400 Bad Request";
  if (headers.has("transfer-encoding")) return "501 Not Implemented";
  const length = headers.get("content-length") ?? "0";
  if (!/^\d{1,15}$/.test(length)) return "400 Bad Request";
  const connection = (headers.get("connection") ?? "").toLowerCase().split(/[ \t]*,[ \t]*/);
  const saysKeepAlive = connection.includes("keep-alive");
  return {
    method,
    keepAlive: !connection.includes("close") && (saysKeepAlive || !isVersion10),
    bodyBytes: Number(length),
    expectsContinue: !isVersion10 && headers.get("expect")?.toLowerCase() === "100-continue",
    saysKeepAlive,
  };
}

function response(status: string, connection: string | null, content: { body: string; withBody: boolean }): string {
  const connectionLine = connection === null ? "" : `Connection: ${connection}\r\n`;
  const head = `HTTP/1.1 ${status}\r\nContent-Type: text/plain\r\nContent-Length: ${content.body.length}\r\n${connectionLine}\r\n`;
  return content.withBody ? head + content.body : head;
}
