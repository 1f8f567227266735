// The address that a connection comes from, in the forms that the steps need: text for the log, bytes for rules. The bytes are made
// only when a rule asks for them; most listeners have none.

import { formatHostPort, formatIp, type IpBytes, parseIp } from "../base/ip.ts";
import type { CidrSet } from "../protocol/cidr.ts";

/** What a dual-stack listener puts before an IPv4 address. */
const MAPPED_PREFIX = "::ffff:";

/** What rules about sources look at. `bytes` is null on a unix socket, which no CIDR contains. */
export interface Source {
  readonly bytes: IpBytes | null;
}

/** Whether a rule about sources holds for this one. */
export function containsSource(set: CidrSet, { bytes }: Source): boolean {
  return bytes !== null && set.contains(bytes);
}

/** The address of a client. */
export class SourceAddress implements Source {
  /** Canonical text, mapped IPv4 as IPv4; "" on a unix socket. */
  readonly ip: string;
  readonly port: number;
  #bytes: IpBytes | null | undefined;

  constructor(ip: string | undefined, port: number | undefined) {
    this.ip = ip === undefined ? "" : canonical(ip);
    this.port = port ?? 0;
  }

  /** Null on a unix socket. */
  get bytes(): IpBytes | null {
    if (this.#bytes === undefined) this.#bytes = parseIp(this.ip);
    return this.#bytes;
  }

  /** `10.0.0.1:4711`, or `unix`. */
  toString(): string {
    return this.ip === "" ? "unix" : formatHostPort(this.ip, this.port);
  }
}

function canonical(ip: string): string {
  if (!ip.includes(":")) return ip;
  if (ip.startsWith(MAPPED_PREFIX) && ip.includes(".")) return ip.slice(MAPPED_PREFIX.length);
  const bytes = parseIp(ip);
  return bytes === null ? ip : formatIp(bytes);
}
