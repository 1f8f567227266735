// Which requests are accepted at all. A browser on this host runs scripts of foreign pages, which must not reach the API: neither by a host name that
// resolves to 127.0.0.1 (DNS rebinding), nor by a request sent blindly (CSRF). Clients on other hosts have to authenticate.

import { type Address, isOnHost } from "../base/address.ts";
import { isLoopbackIp, parseIp } from "../base/ip.ts";
import type { AdminAccess } from "../control/admin-access.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { Problem } from "./problem.ts";

/** Methods by which nothing changes. */
const SAFE_METHODS: readonly string[] = ["GET", "HEAD"];
/** A browser asks its user for the password; the user's name does not matter. */
const CHALLENGE = 'Basic realm="bunnel", charset="UTF-8", Bearer realm="bunnel"';
const TEXT = new TextEncoder();

type Asked = Pick<Request, "method" | "headers">;

/** Lets requests in, or throws the Problem of why not. */
export interface Gate {
  /** Whatever is asked for. */
  refuse(request: Asked): void;
  /** What a page of another origin has sent. */
  refuseForeign(request: Asked): void;
}

/** The gate of an address. */
export function gateFor(
  address: Address,
  { token, tls }: Pick<AdminAccess, "token" | "tls">,
  { sha256 }: Pick<Runtime, "sha256">,
): Gate {
  const scheme = tls === null ? "http" : "https";
  const digest = (text: string): string => sha256(TEXT.encode(text));
  const expected = token === null ? "" : digest(token);
  // No browser can open a unix socket, and clients put anything there. From other hosts everybody has to prove who they are, under whatever name they
  // know this one: what a page of a stranger sends has no token, and its name is not in our certificate.
  const knowsNames = address.kind === "tcp" && isOnHost(address);

  function refuseForeign({ headers }: Asked): void {
    const host = headers.get("host") ?? "";
    const origin = headers.get("origin");
    const site = headers.get("sec-fetch-site");
    const isForeign =
      (origin !== null && origin !== `${scheme}://${host}`) ||
      (site !== null && site !== "same-origin" && site !== "none");
    if (isForeign) throw new Problem(403, "a page of another origin may neither change nor follow anything here");
  }

  return {
    refuse(request) {
      const host = request.headers.get("host") ?? "";
      if (knowsNames && !isLoopbackHost(host)) {
        const told = `the Host header "${printable(host)}" is not this host's: ask for 127.0.0.1, [::1] or localhost`;
        throw new Problem(421, told);
      }
      if (token !== null) {
        const given = givenToken(request.headers.get("authorization") ?? "");
        if (given === null || !isSame(digest(given), expected))
          throw new Problem(401, "this takes the token of admin.token_file: as Bearer, or as the password of Basic", {
            headers: { "WWW-Authenticate": CHALLENGE },
          });
      }
      if (!SAFE_METHODS.includes(request.method)) refuseForeign(request);
    },
    refuseForeign,
  };
}

/** RFC 6750, 2.1 and RFC 7617; null when there is none. */
function givenToken(authorization: string): string | null {
  const [, scheme = "", value = ""] = /^(\w+) +(\S+)$/.exec(authorization) ?? [];
  if (scheme.toLowerCase() === "bearer") return value;
  if (scheme.toLowerCase() !== "basic") return null;
  try {
    const pair = atob(value);
    return pair.includes(":") ? pair.slice(pair.indexOf(":") + 1) : null;
  } catch {
    return null;
  }
}

/** In the same time wherever they differ; they are digests, so of the same length. */
function isSame(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let index = 0; index < b.length; index++) difference |= a.charCodeAt(index) ^ b.charCodeAt(index);
  return difference === 0;
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
