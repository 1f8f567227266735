import { expect, test } from "bun:test";
import { formatAddress, type ListenAddress } from "../../../src/base/address.ts";
import { ListeningSockets } from "../../../src/control/listening-sockets.ts";
import type { BoundSocket } from "../../../src/runtime/runtime.ts";
import { listenerSpec } from "../../support/sim-snapshot.ts";

/** Writes down what is done to the sockets. */
class Recorder {
  readonly done: string[] = [];

  bind(address: ListenAddress): BoundSocket {
    const name = formatAddress(address);
    this.done.push(`bind ${name}`);
    return this.#socket(name);
  }

  #socket(name: string): BoundSocket {
    return {
      address: { kind: "tcp", host: "127.0.0.1", port: 1 },
      share: () => this.#socket(name),
      turnAway: () => this.done.push(`turn away from ${name}`),
      close: () => this.done.push(`close ${name}`),
    };
  }
}

const OURS = listenerSpec({ name: "ours", address: { kind: "tcp", host: "127.0.0.1", port: 1 } });
const PASSED = listenerSpec({ name: "passed", address: { kind: "systemd", name: "web" } });

test("nobody is turned away from a queue that the service manager keeps: who comes next serves it", () => {
  const recorder = new Recorder();
  const sockets = new ListeningSockets(recorder);
  sockets.open([OURS, PASSED]);
  expect([...sockets.held.keys()]).toEqual(["127.0.0.1:1", "systemd:web"]);
  sockets.keepOnly([]);
  expect(recorder.done).toEqual([
    "bind 127.0.0.1:1",
    "bind systemd:web",
    "turn away from 127.0.0.1:1",
    "close 127.0.0.1:1",
    "close systemd:web",
  ]);
});

test("also when a predecessor has handed it on", () => {
  const recorder = new Recorder();
  const sockets = new ListeningSockets(recorder);
  sockets.adopt("systemd:web", recorder.bind({ kind: "systemd", name: "web" }));
  sockets.open([PASSED]);
  sockets.keepOnly([]);
  expect(recorder.done).toEqual(["bind systemd:web", "close systemd:web"]);
});
