// The addresses of SPEC.md as operators write them: `host:port`, `[v6]:port`, `unix:/path`, and `systemd:NAME` where a listener has its address.

import { formatHostPort, formatIp, isLoopbackIp, parseIp } from "./ip.ts";

/** Somewhere to listen or to dial. `host` of "tcp" is an IP literal in canonical text, or a name that is yet to be resolved. */
export type Address =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** A socket that the service manager has opened, by the name it was given there. It can be TCP or unix; only who holds it knows. */
export interface SystemdAddress {
  readonly kind: "systemd";
  readonly name: string;
}

/** Where a listener's connections come from. */
export type ListenAddress = Address | SystemdAddress;

/** How other proxies write that all addresses are listened on. */
const EVERY_ADDRESS = /^\*?:(\d{1,5})$/;
const SYSTEMD_PREFIX = "systemd:";
/** What systemd takes for FileDescriptorName= (systemd.socket(5)), without the blank, which nobody means. */
const SYSTEMD_NAME = /^[\x21-\x39\x3b-\x7e]{1,255}$/;
/** The kernel's limit for a unix socket path, with its final NUL (unix(7)). */
const UNIX_PATH_MAX_BYTES = 108;
const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?$/;

/** The address, or a string that says what is wrong with the text. */
export function parseAddress(text: string): Address | string {
  if (text.startsWith("unix:")) return parseUnix(text.slice(5));
  if (text.startsWith(SYSTEMD_PREFIX)) return `"${text}" can only be the address of a listener`;
  if (/^[a-z]+:\/\//i.test(text)) return `"${text}" is a URL: write host:port, [v6]:port or unix:/path`;
  const colon = text.lastIndexOf(":");
  if (colon < 0) return `"${text}" has no port: write host:port, [v6]:port or unix:/path`;
  const portText = text.slice(colon + 1);
  const port = Number(portText);
  if (!/^\d{1,5}$/.test(portText) || port > 65535) return `"${portText}" is not a port: write a number from 0 to 65535`;
  const host = text.slice(0, colon);
  if (host.startsWith("[") && host.endsWith("]")) {
    const bytes = host.includes(":") ? parseIp(host.slice(1, -1)) : null;
    return bytes === null ? `"${host}" is not an IPv6 address` : { kind: "tcp", host: formatIp(bytes), port };
  }
  if (host.includes(":")) return `an IPv6 address needs brackets: [${host}]:${portText}`;
  if (host === "") return `"${text}" has no host: write host:port, [v6]:port or unix:/path`;
  const bytes = parseIp(host);
  if (bytes !== null) return { kind: "tcp", host: formatIp(bytes), port };
  if (/^[\d.]+$/.test(host)) return `"${host}" is not an IPv4 address`;
  if (!HOST_NAME.test(host)) return `"${host}" is neither an IP address nor a host name`;
  return { kind: "tcp", host, port };
}

/** As `parseAddress`, for a listener: `systemd:NAME` is one as well. */
export function parseListenAddress(text: string): ListenAddress | string {
  const [, port] = EVERY_ADDRESS.exec(text) ?? [];
  if (port !== undefined)
    return `"${text}" names no address: write 0.0.0.0:${port} for all of IPv4, [::]:${port} for all of IPv6 and IPv4`;
  if (!text.startsWith(SYSTEMD_PREFIX)) return parseAddress(text);
  const name = text.slice(SYSTEMD_PREFIX.length);
  if (SYSTEMD_NAME.test(name)) return { kind: "systemd", name };
  return `"${text}" names no socket: write systemd:NAME, with the FileDescriptorName= of the .socket unit`;
}

/** The text that `parseListenAddress` reads back. */
export function formatAddress(address: ListenAddress): string {
  if (address.kind === "systemd") return `${SYSTEMD_PREFIX}${address.name}`;
  return address.kind === "unix" ? `unix:${address.path}` : formatHostPort(address.host, address.port);
}

/** Whether nothing off this host can be at the other end: loopback, `localhost` or a unix socket. What systemd listens on is not known. */
export function isOnHost(address: ListenAddress): boolean {
  if (address.kind === "systemd") return false;
  if (address.kind === "unix" || address.host.toLowerCase() === "localhost") return true;
  const bytes = parseIp(address.host);
  return bytes !== null && isLoopbackIp(bytes);
}

function parseUnix(path: string): Address | string {
  if (!path.startsWith("/") && !path.startsWith("@"))
    return `"unix:${path}" needs an absolute path: unix:/run/bunnel/name.sock`;
  // The kernel would take the path to end there, and open another one than was written.
  if (path.includes("\0")) return "a unix socket path cannot hold a NUL character";
  if (new TextEncoder().encode(path).length >= UNIX_PATH_MAX_BYTES)
    return `the path is longer than a unix socket allows (${UNIX_PATH_MAX_BYTES - 1} bytes)`;
  return { kind: "unix", path };
}
