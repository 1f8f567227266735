// Addresses that stand for one another: 0.0.0.0 and [::] listen on every address of the host, and [::] takes IPv4 too.

import { type Address, isOnHost, type ListenAddress } from "../base/address.ts";

/**
 * Whether the system would refuse to open the second of these listeners. Port 0 is a free port, so it never clashes.
 */
export function addressesClash(first: ListenAddress, second: ListenAddress): boolean {
  if (first.kind === "systemd") return second.kind === "systemd" && first.name === second.name;
  if (second.kind === "systemd") return false;
  if (first.kind === "unix") return second.kind === "unix" && first.path === second.path;
  if (second.kind === "unix") return false;
  if (first.port !== second.port || first.port === 0) return false;
  return first.host === second.host || covers(first.host, second.host) || covers(second.host, first.host);
}

/**
 * Whether dialling `endpoint` reaches `listener`, as far as the texts tell: not through another name or address of
 * this host.
 */
export function dialsBack(listener: ListenAddress, endpoint: Address): boolean {
  if (listener.kind === "systemd") return false;
  if (listener.kind === "unix") return endpoint.kind === "unix" && listener.path === endpoint.path;
  if (endpoint.kind === "unix" || listener.port !== endpoint.port) return false;
  if (listener.host === endpoint.host) return true;
  const wildcard = listener.host === "0.0.0.0" || listener.host === "::";
  return isOnHost(endpoint) && (wildcard || (endpoint.host === "localhost" && isOnHost(listener)));
}

function covers(wildcard: string, host: string): boolean {
  if (wildcard === "::") return true;
  return wildcard === "0.0.0.0" && !host.includes(":");
}
