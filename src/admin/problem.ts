// Error answers: RFC 9457, problem details for HTTP APIs.

/** The media type of an error. */
export const PROBLEM_TYPE = "application/problem+json";

/** By status (RFC 9110, 15). */
const TITLES = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  413: "Content Too Large",
  421: "Misdirected Request",
  500: "Internal Server Error",
  503: "Service Unavailable",
} as const;

/** A status that is answered with a problem. */
export type ProblemStatus = keyof typeof TITLES;

export interface ProblemExtras {
  /** Members beside the standard ones. */
  readonly members?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Thrown by a handler that cannot answer a request. */
export class Problem extends Error {
  readonly status: ProblemStatus;
  readonly #extras: ProblemExtras;

  /** `detail` is for the client: what is wrong, and what to do. */
  constructor(status: ProblemStatus, detail: string, extras: ProblemExtras = {}) {
    super(detail);
    this.status = status;
    this.#extras = extras;
  }

  /** As an answer. */
  response(): Response {
    const { status, message: detail } = this;
    const { members, headers } = this.#extras;
    const body = { type: "about:blank", title: TITLES[status], status, detail, ...members };
    return new Response(JSON.stringify(body), { status, headers: { "Content-Type": PROBLEM_TYPE, ...headers } });
  }
}
