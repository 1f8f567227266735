// What binding has in common on both platforms: the error for an address that cannot be bound, and where a socket file is made.

import { Buffer } from "node:buffer";
import { dirname } from "node:path";
import { type Address, formatAddress } from "../../base/address.ts";
import { ProxyError } from "../../base/errors.ts";

/** What to do about an errno of bind(2). */
const ADVICE: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program listens there: stop it or choose another address",
  EACCES: "not permitted: ports below 1024 need root or CAP_NET_BIND_SERVICE, a socket file a writable directory",
  EADDRNOTAVAIL: "no interface of this host has that address",
  ENOENT: "the directory of the socket file does not exist",
  EAFNOSUPPORT: "this host has IPv6 switched off",
};
/** The kernel's limit (unix(7)) without the final NUL. */
const UNIX_PATH_MAX_BYTES = 107;

/** The error of an address that cannot be listened on, with what to do about it. */
export function cannotListen(address: Address, code: string, advice = ADVICE[code]): ProxyError {
  const told = advice === undefined ? code : `${code}: ${advice}`;
  return new ProxyError(code, `cannot listen on ${formatAddress(address)}: ${told}`);
}

/** Where this process binds a socket file before it renames it to `path`: in the same directory, and no longer than the kernel allows. */
export function temporarySocketPath(path: string, pid: number): string {
  const beside = `${path}.${pid}`;
  return Buffer.byteLength(beside) <= UNIX_PATH_MAX_BYTES ? beside : `${dirname(path)}/.${pid.toString(36)}`;
}
