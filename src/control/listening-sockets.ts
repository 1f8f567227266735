// The listening sockets, opened and kept by the control plane for as long as the config has them. Workers accept from duplicated descriptors of
// them ("shares"), so clients in the accept queue do not notice when a process that accepts from it ends. "Queue" below means a listening socket
// with its accept queue; "place" is its address as text (`placeOf`), which it is known by across snapshots and processes.

import { type Address, formatAddress, type ListenAddress } from "../base/address.ts";
import { ProxyError } from "../base/errors.ts";
import type { BoundSocket, Runtime } from "../runtime/runtime.ts";
import { type ListenerSpec, placeOf } from "../snapshot/snapshot.ts";

/** How long workers may still hold a queue that was just given up, to empty it. */
const LEAVING_MS = 2000;
const LEAVING_LOOK_MS = 25;

/** The listening sockets of one daemon. */
export class ListeningSockets {
  readonly #runtime: Pick<Runtime, "bind">;
  readonly #held = new Map<string, BoundSocket>();
  /** When queues were given up, in ms since 1970, by address. */
  readonly #left = new Map<string, number>();

  constructor(runtime: Pick<Runtime, "bind">) {
    this.#runtime = runtime;
  }

  /** The sockets that are held, by place. */
  get held(): ReadonlyMap<string, BoundSocket> {
    return this.#held;
  }

  /** The queue of a listener, which `open` was called for. Throws ProxyError EBADF otherwise. */
  of(spec: ListenerSpec): BoundSocket {
    const socket = this.#held.get(placeOf(spec));
    if (socket === undefined) throw new ProxyError("EBADF", `nothing is bound for listener ${spec.name}`);
    return socket;
  }

  /** Where these listeners listen. They have been opened. */
  addressesOf(specs: readonly ListenerSpec[]): readonly { readonly listener: string; readonly address: Address }[] {
    return specs.map((spec) => ({ listener: spec.name, address: this.of(spec).address }));
  }

  /** Keeps queues that somebody else has opened: a predecessor, or the service manager. */
  adopt(place: string, socket: BoundSocket): void {
    this.#held.set(place, socket);
  }

  /** Opens what is not open yet: all of it, or none, and then throws the ProxyError of the first that cannot be had. The places that are new. */
  open(specs: readonly ListenerSpec[]): readonly string[] {
    const opened: string[] = [];
    try {
      for (const spec of specs) {
        const place = placeOf(spec);
        if (this.#held.has(place)) continue;
        this.#held.set(place, this.#runtime.bind(spec.address, [...this.#held.values()]));
        opened.push(place);
      }
    } catch (thrown) {
      this.forget(opened);
      throw thrown;
    }
    return opened;
  }

  /** As `open`, and waits for what this daemon itself has just given up and is still emptying. */
  async openPatiently(specs: readonly ListenerSpec[]): Promise<readonly string[]> {
    for (;;) {
      try {
        return this.open(specs);
      } catch (thrown) {
        const isInUse = thrown instanceof ProxyError && thrown.code === "EADDRINUSE";
        if (!isInUse || !specs.some(({ address }) => this.#isLeaving(address))) throw thrown;
      }
      await new Promise((resolve) => setTimeout(resolve, LEAVING_LOOK_MS));
    }
  }

  /** Gives up queues that nobody has accepted from: the snapshot they were opened for is not served. */
  forget(places: readonly string[]): void {
    for (const place of places) {
      const socket = this.#held.get(place);
      this.#held.delete(place);
      if (socket !== undefined) turnAwayFrom(place, socket);
      socket?.close();
    }
  }

  /** Gives up what these listeners do not use. Nobody joins those queues any more; whoever relays empties its share of them. */
  keepOnly(specs: readonly ListenerSpec[]): void {
    const kept = new Set(specs.map(placeOf));
    for (const [place, socket] of this.#held) {
      if (kept.has(place)) continue;
      this.#left.set(formatAddress(socket.address), Date.now());
      this.forget([place]);
    }
  }

  /** Closes the holds on what these listeners do not use, and leaves those queues to whoever else has them. What the service manager passed is kept. */
  leaveUnused(specs: readonly ListenerSpec[]): void {
    const used = new Set(specs.map(placeOf));
    for (const [place, socket] of this.#held) {
      if (used.has(place) || isManaged(place)) continue;
      this.#held.delete(place);
      socket.close();
    }
  }

  /** Gives up every hold. With the places in `others` another process goes on; nobody joins the other queues any more. */
  close(others: readonly string[]): void {
    const left = new Set(others);
    for (const [place, socket] of this.#held) {
      if (left.has(place)) socket.close();
      else this.forget([place]);
    }
    this.#held.clear();
  }

  #isLeaving(address: ListenAddress): boolean {
    const leftAt = this.#left.get(formatAddress(address));
    return leftAt !== undefined && Date.now() - leftAt < LEAVING_MS;
  }
}

/** What the service manager listens on goes on without us: who joins its queue is for whoever it starts next. */
function turnAwayFrom(place: string, socket: BoundSocket): void {
  if (!isManaged(place)) socket.turnAway();
}

function isManaged(place: string): boolean {
  return place.startsWith("systemd:");
}
