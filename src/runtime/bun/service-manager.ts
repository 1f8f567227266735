// What a service manager such as systemd has put into our environment: where it wants to hear of us (sd_notify(3)), how often
// (sd_watchdog_enabled(3)), and sockets that it has opened for us (sd_listen_fds(3)). Each variable is taken out of the environment when it has
// been read: it is meant for this process and not for those that it starts.

import { formatAddress, type SystemdAddress } from "../../base/address.ts";
import { ProxyError } from "../../base/errors.ts";
import type { BoundSocket, ServiceManager } from "../runtime.ts";
import { BunBoundSocket } from "./bound.ts";
import { keepFromChildren, listeningAddress, monotonicMicroseconds, sendDatagram } from "./libc-service.ts";

/** The first descriptor that is passed. */
const LISTEN_FDS_START = 3;
/** More than anybody passes, and less than what would take long to look at. */
const MOST_SOCKETS = 1000;
/** How long a notice may wait for a manager that is slow to read. */
const PATIENCE_MS = 1000;

type Environment = Record<string, string | undefined>;

let manager: ServiceManager | null | undefined;
let sockets: ReadonlyMap<string, BunBoundSocket> | undefined;

/** See `Runtime.serviceManager`. */
export function serviceManager(): ServiceManager | null {
  manager ??= readManager(process.env, process.pid);
  return manager;
}

/** See `Runtime.inheritedSockets`. */
export function inheritedSockets(): ReadonlyMap<string, BoundSocket> {
  sockets ??= readSockets(process.env, process.pid);
  return sockets;
}

/** See `Runtime.bind`: a hold on a socket that was passed. */
export function shareInherited({ name }: SystemdAddress): BoundSocket {
  const socket = inheritedSockets().get(name);
  if (socket !== undefined) return socket.share();
  const known = [...inheritedSockets().keys()].join(", ");
  throw new ProxyError(
    "ENOTPASSED",
    `no socket named ${name} was passed by systemd${known === "" ? "" : ` (it passed: ${known})`}: add FileDescriptorName=${name} to the .socket unit`,
  );
}

function readManager(environment: Environment, pid: number): ServiceManager | null {
  const path = take(environment, "NOTIFY_SOCKET");
  const watchdogMicroseconds = Number(take(environment, "WATCHDOG_USEC") ?? "0");
  const watchdogPid = take(environment, "WATCHDOG_PID");
  if (path === undefined || path === "") return null;
  const isWatched = watchdogPid === undefined || watchdogPid === "" || Number(watchdogPid) === pid;
  const watchdogMs = isWatched && watchdogMicroseconds > 0 ? watchdogMicroseconds / 1000 : 0;
  return {
    pid,
    watchdogMs,
    // The predecessor's process id would be wrong there.
    environment: {
      NOTIFY_SOCKET: path,
      ...(watchdogMs > 0 ? { WATCHDOG_USEC: String(watchdogMicroseconds) } : {}),
    },
    notify: (state) => (/^[/@]/.test(path) ? sendDatagram(path, state, PATIENCE_MS) : "EAFNOSUPPORT"),
    monotonicMicroseconds,
  };
}

function readSockets(environment: Environment, pid: number): ReadonlyMap<string, BunBoundSocket> {
  const listenPid = take(environment, "LISTEN_PID");
  const count = Number(take(environment, "LISTEN_FDS") ?? "0");
  const names = take(environment, "LISTEN_FDNAMES");
  take(environment, "LISTEN_PIDFDID");
  const found = new Map<string, BunBoundSocket>();
  // Someone else's: a program between systemd and us has not cleaned up.
  if (Number(listenPid) !== pid || !(count > 0)) return found;
  if (!Number.isInteger(count) || count > MOST_SOCKETS)
    throw refusal(`LISTEN_FDS is ${count}, which is no number of sockets`);
  const nameOf = names === undefined || names === "" ? [] : names.split(":");
  for (let index = 0; index < count; index++) {
    const descriptor = LISTEN_FDS_START + index;
    // As sd_listen_fds_with_names(3) calls them when nobody has named them.
    const name = nameOf[index] || "unknown";
    keepFromChildren(descriptor);
    const address = listeningAddress(descriptor);
    if (typeof address === "string")
      throw refusal(
        `descriptor ${descriptor} (${name}) is ${address}: use ListenStream= and Accept=no in the .socket unit`,
      );
    const other = found.get(name);
    if (other !== undefined)
      throw refusal(
        `${formatAddress(other.address)} and ${formatAddress(address)} are both named ${name}: give each a .socket unit of its own, with its own FileDescriptorName=`,
      );
    found.set(name, new BunBoundSocket(descriptor, address));
  }
  return found;
}

function refusal(what: string): ProxyError {
  return new ProxyError("BAD_INHERITED_SOCKET", `the sockets that systemd passed cannot be used: ${what}`);
}

function take(environment: Environment, name: string): string | undefined {
  const value = environment[name];
  delete environment[name];
  return value;
}
