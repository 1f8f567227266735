// Who may ask at all. The admin API is for programs of this host, and knows no passwords; a browser of this host runs the scripts of strangers, who must
// not reach it: neither by a name that they made lead to 127.0.0.1 (DNS rebinding), nor by a request sent blindly from their pages (CSRF).

import { isLoopbackIp, parseIp } from "../base/ip.ts";
import { Problem } from "./problem.ts";

/** Methods by which nothing changes. */
const SAFE_METHODS: readonly string[] = ["GET", "HEAD"];

/** Throws the Problem of a request that came over `kind` and may not come from there, whatever it asks for. */
export function refuse(kind: "tcp" | "unix", request: Pick<Request, "method" | "headers">): void {
  const host = request.headers.get("host") ?? "";
  // No browser can open a unix socket, and clients put anything there.
  if (kind === "tcp" && !isLoopbackHost(host)) {
    const told = `the Host header "${printable(host)}" is not this host's: ask for 127.0.0.1, [::1] or localhost`;
    throw new Problem(421, told);
  }
  if (!SAFE_METHODS.includes(request.method)) refuseForeign(request);
}

/** Throws the Problem of a request that a page of another origin has sent. */
export function refuseForeign(request: Pick<Request, "headers">): void {
  const host = request.headers.get("host") ?? "";
  const origin = request.headers.get("origin");
  const site = request.headers.get("sec-fetch-site");
  const isForeign =
    (origin !== null && origin !== `http://${host}`) || (site !== null && site !== "same-origin" && site !== "none");
  if (isForeign) throw new Problem(403, "a page of another origin may neither change nor follow anything here");
}

/** Whether a Host header names this host by a name that nobody else can own. */
function isLoopbackHost(host: string): boolean {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::\d{1,5})?$/.exec(host);
  const name = (match?.[1] ?? match?.[2] ?? "").toLowerCase();
  if (name === "localhost") return true;
  const bytes = parseIp(name);
  return bytes !== null && isLoopbackIp(bytes);
}

function printable(text: string): string {
  return text.slice(0, 100).replace(/[^\x20-\x7e]/g, "?");
}
