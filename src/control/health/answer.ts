// What an endpoint answers to a probe, read as it comes: whether it is what was expected, whether it is not, or whether more has to come. Nothing is
// kept beyond a limit, whatever the endpoint sends.

import { latin1 } from "../../base/bytes.ts";
import type { HttpProbeSpec } from "../../snapshot/snapshot.ts";

/** How much of an answer is looked at: of all of it for `expect`, of its head for HTTP. */
const LOOKED_AT_BYTES = 8 * 1024;
/** An answer by HTTP that is longer is no answer to a probe. */
const MOST_HTTP_BYTES = 1024 * 1024;
/** Of an answer that was not expected, shown in the reason. */
const SHOWN_CHARACTERS = 60;
const HTTP = "HTTP/1.";
/** What a TLS server that does not understand the request begins with: an alert. */
const TLS_ALERT = "\x15";

/** "": as expected. A text: not as expected, and why. Null: more has to come. */
export type Verdict = string | null;

/** An answer under way. */
export interface Answer {
  /** More of it. Not called after a verdict. */
  feed(bytes: Uint8Array): Verdict;
  /** There is no more. */
  end(): string;
}

/** An answer that must hold some bytes, given as a text with one character for each. */
export class ExpectedBytes implements Answer {
  readonly #expected: string;
  #text = "";

  constructor(expected: string) {
    this.#expected = expected;
  }

  feed(bytes: Uint8Array): Verdict {
    this.#text = (this.#text + latin1(bytes)).slice(0, LOOKED_AT_BYTES);
    if (this.#text.includes(this.#expected)) return "";
    return this.#text.length < LOOKED_AT_BYTES ? null : this.#missing;
  }

  end(): string {
    return this.#text === "" ? "it ended without an answer" : this.#missing;
  }

  get #missing(): string {
    return `${shown(this.#expected)} was expected, and it said ${shown(this.#text)}`;
  }
}

/** An answer by HTTP/1.1, up to its end: one that never ends is none. */
export class HttpAnswer implements Answer {
  readonly #spec: HttpProbeSpec;
  /** The head as far as it has come. */
  #head = "";
  #received = 0;
  /** Bytes of the body that are yet to come; null while the head is not there, infinite when only the end tells. */
  #left: number | null = null;
  #isChunked = false;
  /** The last characters of the body. */
  #tail = "";

  constructor(spec: HttpProbeSpec) {
    this.#spec = spec;
  }

  feed(bytes: Uint8Array): Verdict {
    this.#received += bytes.length;
    if (this.#received > MOST_HTTP_BYTES) return "the answer is longer than 1 MiB";
    return this.#left === null ? this.#feedHead(latin1(bytes)) : this.#feedBody(latin1(bytes));
  }

  end(): string {
    // Trailers may stand behind the last chunk.
    const isWhole = this.#isChunked ? this.#tail.endsWith("\r\n\r\n") : this.#left === Number.POSITIVE_INFINITY;
    if (this.#left !== null && isWhole) return "";
    if (this.#left !== null) return "the answer was cut off";
    return this.#head === "" ? "it ended without an answer" : `it ended after ${shown(this.#head)}`;
  }

  #feedHead(text: string): Verdict {
    this.#head += text;
    for (;;) {
      const head = this.#head;
      if (head.startsWith(TLS_ALERT)) return "it speaks TLS, and no HTTP without it";
      if (!head.startsWith(HTTP.slice(0, head.length))) return `the answer is no HTTP: ${shown(head)}`;
      const end = /\r?\n\r?\n/.exec(head);
      // A status that is not expected says all, also when the head never ends.
      const lineEnd = head.indexOf("\n");
      if (lineEnd < 0) return head.length < LOOKED_AT_BYTES ? null : "the head of the answer is longer than 8 KiB";
      const line = head.slice(0, lineEnd).trimEnd();
      const status = Number(/^HTTP\/1\.[01] (\d{3})( |$)/.exec(line)?.[1]);
      if (Number.isNaN(status)) return `the answer is no HTTP: ${shown(line)}`;
      const isInterim = status >= 100 && status < 200 && status !== 101;
      if (!isInterim && !this.#spec.statuses.some(({ first, last }) => status >= first && status <= last))
        return `status ${status}`;
      if (end === null || end.index > LOOKED_AT_BYTES)
        return head.length < LOOKED_AT_BYTES ? null : "the head of the answer is longer than 8 KiB";
      this.#head = head.slice(end.index + end[0].length);
      if (!isInterim) return this.#beginBody(status, head.slice(0, end.index));
    }
  }

  /** How long the body is (RFC 9112, 6.3). */
  #beginBody(status: number, head: string): Verdict {
    const length = /^content-length:[ \t]*(\d{1,15})[ \t]*\r?$/im.exec(head)?.[1];
    this.#isChunked = /^transfer-encoding:.*\bchunked[ \t]*\r?$/im.test(head);
    if (this.#spec.method === "HEAD" || status === 204 || status === 304) return "";
    this.#left = this.#isChunked || length === undefined ? Number.POSITIVE_INFINITY : Number(length);
    return this.#feedBody(this.#head);
  }

  #feedBody(text: string): Verdict {
    this.#left = (this.#left ?? 0) - text.length;
    this.#tail = (this.#tail + text).slice(-7);
    // We have asked for the end of the connection too, so of a body in chunks nothing but its last one has to be understood.
    if (this.#isChunked && /(^|\r\n)0\r\n\r\n$/.test(this.#tail)) return "";
    return this.#left <= 0 ? "" : null;
  }
}

/** The request of a probe by HTTP. The connection is to end with its answer, so that nothing is left open at the endpoint. */
export function httpRequest({ method, path }: HttpProbeSpec, host: string): string {
  return `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: bunnel-health\r\nAccept: */*\r\nConnection: close\r\n\r\n`;
}

function shown(text: string): string {
  const short = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
  // JSON leaves these as they are.
  return JSON.stringify(short).replace(/[\x7f-\xff]/g, "?");
}
