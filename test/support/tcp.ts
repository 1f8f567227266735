// Plain TCP in scenarios, beside the peers of the conformance suite: clients from other loopback addresses, endpoints that behave in some
// way, and one that answers no connection attempt at all.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import net from "node:net";
import { boundAddress, closeDescriptor, listenOn, openBound } from "../../src/runtime/bun/libc.ts";
import { listenAsPeer, Peer, type PeerServer } from "../conformance/peers.ts";
import { eventually } from "./eventually.ts";

/** A connected peer; `from` is a loopback address such as 127.0.0.2. `to` is `127.0.0.1:PORT` or `unix:/PATH`. */
export async function connectTo(to: string, from?: string): Promise<Peer> {
  const socket = net.connect({
    ...target(to),
    ...(from === undefined ? {} : { localAddress: from }),
    allowHalfOpen: true,
  });
  const peer = new Peer(socket);
  // A connection that was reset at once is told by `error` instead of `connect`; it was accepted all the same.
  const connected = once(socket, "connect").catch(() => peer.errorCode);
  const failure = await connected;
  if (typeof failure === "string" && failure !== "ECONNRESET") throw new Error(`cannot connect to ${to}: ${failure}`);
  return peer;
}

function target(to: string): { path: string } | { host: string; port: number } {
  if (to.startsWith("unix:")) return { path: to.slice(5) };
  const colon = to.lastIndexOf(":");
  return { host: to.slice(0, colon), port: Number(to.slice(colon + 1)) };
}

/** An endpoint, to be declared with `await using`. */
export interface Endpoint extends PeerServer, AsyncDisposable {
  readonly address: string;
}

/** An endpoint that does as `onConnection` says; by default it sends everything back, and its own end after the client's. */
export async function startEndpoint(
  onConnection: (peer: Peer) => void = echo,
  where: { readonly path?: string } = {},
): Promise<Endpoint> {
  const { path } = where;
  const server = await listenAsPeer(onConnection, path === undefined ? { host: "127.0.0.1" } : { path });
  return {
    ...server,
    address: path === undefined ? `127.0.0.1:${server.port}` : `unix:${path}`,
    [Symbol.asyncDispose]: async () => server.close(),
  };
}

/** Sends everything back, and the end too. */
export function echo({ socket }: Peer): void {
  socket.pipe(socket);
}

/** Does nothing: the connection is held open. */
export function hold(): void {}

/** The address of an endpoint that drops every attempt to connect, as a firewall does: its queue, of one place, is full. */
export async function startUnansweringEndpoint(): Promise<AsyncDisposable & { readonly address: string }> {
  const descriptor = openBound({ kind: "tcp", host: "127.0.0.1", port: 0 });
  if (typeof descriptor === "string") throw new Error(`cannot bind: ${descriptor}`);
  listenOn(descriptor, 0);
  const bound = boundAddress(descriptor);
  const address = bound.kind === "tcp" ? `127.0.0.1:${bound.port}` : "";
  const first = await connectTo(address);
  return {
    address,
    async [Symbol.asyncDispose]() {
      first.socket.destroy();
      closeDescriptor(descriptor);
    },
  };
}

/** A client of an echo that has had an answer. */
export async function talking(to: string): Promise<Peer> {
  const peer = await connectTo(to);
  peer.socket.write("a");
  await eventually("it was answered", () => peer.text === "a");
  return peer;
}

/** Ends such a client, which must have been served to its end. */
export async function endInOrder(peer: Peer): Promise<void> {
  const whole = `${peer.text}b`;
  peer.socket.end("b");
  await eventually(
    () => `it ended in order, and not with "${peer.text}" and ${peer.errorCode}`,
    () => peer.text === whole && peer.ended && peer.errorCode === "",
  );
}

/** Whether somebody listens at the path: the file of a unix socket is there a moment before. */
export function listensAt(path: string): boolean {
  // Columns of proc(5): Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON is 0x10000.
  return new RegExp(` 00010000 0001 01 +\\d+ ${RegExp.escape(path)}$`, "m").test(
    readFileSync("/proc/net/unix", "utf8"),
  );
}
