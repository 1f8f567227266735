// The one error class that crosses asynchronous edges. On the data path failures are values (close reasons);
// this is for what an awaiting caller must catch: opening sockets, loading files, building TLS contexts.

/**
 * An operating failure with a stable `code` (upper snake case, such as `EADDRINUSE` or `EX_CONFIG`) that callers branch on
 * and a `message` that says what failed, where, and what to do about it. `cause`: the error it comes from, if any.
 */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
  readonly code: string;

  constructor(code: string, message: string, options: Pick<ErrorOptions, "cause"> = {}) {
    super(message, options);
    this.code = code;
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
