import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Connection } from "../../../src/proxy/connection.ts";
import { Leg } from "../../../src/proxy/leg.ts";

describe("joinPending and consume", () => {
  test("give every byte once and in order, whatever the chunks and whenever they are asked", () => {
    const anyStep = fc.oneof(
      fc.record({ kind: fc.constant("arrive" as const), length: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ kind: fc.constant("join" as const), length: fc.constant(0) }),
      fc.record({ kind: fc.constant("consume" as const), length: fc.nat({ max: 60 }) }),
      fc.record({ kind: fc.constant("write" as const), length: fc.nat({ max: 20 }) }),
    );
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 60 }), (steps) => {
        const leg = anyLeg();
        let sent = 0;
        let taken = 0;
        let consumed = 0;
        for (const { kind, length } of steps) {
          if (kind === "arrive") {
            leg.bytesRead += length;
            leg.keep(noise(sent, length));
            sent += length;
          } else if (leg.pendingBytes > 0 && kind === "consume") {
            const count = Math.min(length, leg.pendingBytes);
            leg.consume(count);
            taken += count;
            consumed += count;
          } else if (leg.pendingBytes > 0 && kind === "write") {
            taken += writeFirst(leg, length);
          } else if (leg.pendingBytes > 0) expect(leg.joinPending()).toEqual(noise(taken, sent - taken));
          expect(leg.pendingBytes).toBe(sent - taken);
          expect(Buffer.concat(leg.pending)).toEqual(Buffer.from(noise(taken, sent - taken)));
          expect(leg.bytesRead).toBe(sent - consumed);
          expect(leg.bytesDelivered).toBe(taken - consumed);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("bytes that were handed out stay as they are when more arrive", () => {
    const leg = anyLeg();
    leg.keep(noise(0, 3));
    leg.keep(noise(3, 3));
    const handedOut = leg.joinPending();
    leg.consume(6);
    for (let at = 6; at < 40; at++) {
      leg.keep(noise(at, 1));
      leg.joinPending();
    }
    expect(handedOut).toEqual(noise(0, 6));
  });

  test("never writes into a chunk that came from the runtime, even when its buffer is larger", () => {
    const leg = anyLeg();
    const buffer = new Uint8Array(64).fill(9);
    leg.keep(buffer.subarray(0, 4));
    leg.keep(noise(0, 4));
    leg.joinPending();
    expect(buffer).toEqual(new Uint8Array(64).fill(9));
  });

  test("16 KiB that arrive byte by byte are not copied more than a few times", () => {
    const leg = anyLeg();
    const original = Uint8Array.prototype.set;
    let copied = 0;
    Uint8Array.prototype.set = function (source, offset): void {
      copied += source.length;
      original.call(this, source, offset);
    };
    try {
      for (let at = 0; at < 16_384; at++) {
        leg.keep(noise(at, 1));
        leg.joinPending();
      }
    } finally {
      Uint8Array.prototype.set = original;
    }
    expect(leg.joinPending()).toEqual(noise(0, 16_384));
    expect(copied).toBeLessThan(4 * 16_384);
  });
});

test("dropPending forgets what was read and not delivered", () => {
  const leg = anyLeg();
  leg.bytesRead = 10;
  leg.keep(noise(0, 4));
  leg.dropPending();
  expect([leg.bytesRead, leg.pendingBytes, leg.bytesDelivered]).toEqual([6, 0, 6]);
});

/** As the relay does after a short write. */
function writeFirst(leg: Leg, length: number): number {
  const first = leg.pending[0] as Uint8Array;
  const taken = Math.min(length, first.length);
  if (taken === first.length) leg.pending.shift();
  else leg.pending[0] = first.subarray(taken);
  leg.pendingBytes -= taken;
  return taken;
}

function anyLeg(): Leg {
  // A leg only keeps its connection for others; nothing here asks for it.
  return new Leg({} as Connection);
}

function noise(start: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (start + index) * 31 + ((start + index) >> 8));
}
