// Requests to the API. A failure carries the message of the API.

/** What the API, or the browser, said was wrong. `status` is 0 when nobody answered. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** How long an answer may take. */
const PATIENCE_MS = 10_000;

/**
 * @template Answer
 * @param {string} path
 * @param {Readonly<Record<string, string | number>>} [query] What is "" is left out.
 * @returns {Promise<Answer>}
 */
export function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return ask("GET", given.length === 0 ? path : `${path}?${search}`);
}

/**
 * Ends a live connection.
 * @param {string} id
 * @returns {Promise<unknown>}
 */
export function closeConnection(id) {
  return ask("DELETE", `/api/v1/connections/${encodeURIComponent(id)}`);
}

/**
 * @template Answer
 * @param {string} method
 * @param {string} path
 * @returns {Promise<Answer>}
 */
async function ask(method, path) {
  const response = await fetch(path, { method, signal: AbortSignal.timeout(PATIENCE_MS) }).catch(() => {
    throw new ApiError("the daemon does not answer", 0);
  });
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  throw new ApiError(String(body?.detail ?? body?.title ?? `the daemon answered ${response.status}`), response.status);
}
