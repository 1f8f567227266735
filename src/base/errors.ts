// The one error class that crosses asynchronous edges. On the data path failures are values (close reasons);
// this is for what an awaiting caller must catch: opening sockets, loading files, building TLS contexts.

/** Who caused a failure, as seen from the proxy. */
export type Side = "downstream" | "upstream" | "internal";

export interface ProxyErrorOptions {
  readonly side?: Side;
  /** Whether the same step may succeed when tried again, perhaps elsewhere. Default false. */
  readonly retry?: boolean;
  readonly cause?: unknown;
}

/**
 * An operating failure with a stable `code` (upper snake case, such as `EADDRINUSE` or `BAD_CERTIFICATE`) that callers branch on
 * and a `message` that says what failed, where, and what to do about it.
 */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
  readonly code: string;
  readonly side: Side;
  readonly retry: boolean;

  constructor(code: string, message: string, options: ProxyErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.side = options.side ?? "internal";
    this.retry = options.retry ?? false;
  }
}

/** The message of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The `code` of anything that was thrown, or "" when it has none. */
export function codeOf(thrown: unknown): string {
  if (typeof thrown === "object" && thrown !== null && "code" in thrown && typeof thrown.code === "string")
    return thrown.code;
  return "";
}
