// A snapshot is sent in messages that are all short, and comes together as it was.

import { expect, test } from "bun:test";
import { Joiner, takeApart } from "../../../src/snapshot/messages.ts";
import type { Snapshot } from "../../../src/snapshot/snapshot.ts";
import { backendSpec, endpointSpec, snapshotSpec } from "../../support/sim-snapshot.ts";

/** With backends of so many endpoints. */
function snapshotOf(...counts: readonly number[]): Snapshot {
  let slot = 1;
  const backends = counts.map((count, index) =>
    backendSpec({ name: `b${index}`, endpoints: Array.from({ length: count }, () => endpointSpec(slot++)) }),
  );
  return snapshotSpec({ backends });
}

/** What of it arrives by way of text, as on a channel. */
function sent<T>(message: T): T {
  return JSON.parse(JSON.stringify(message)) as T;
}

for (const counts of [[], [0], [1], [10_000], [0, 199, 0, 200, 201, 0], Array.from({ length: 500 }, () => 3)]) {
  const told = counts.length > 10 ? `${counts.length} backends` : JSON.stringify(counts);
  test(`endpoints: ${told}: no message is long, and the whole is what it was, each time`, () => {
    const snapshot = snapshotOf(...counts);
    const joiner = new Joiner();
    for (let time = 0; time < 2; time++) {
      const { ahead, rest } = takeApart(snapshot);
      for (const message of [...ahead, rest]) expect(JSON.stringify(message).length).toBeLessThan(250_000);
      for (const { pieces } of ahead) joiner.add(sent(pieces));
      expect(joiner.join(sent(rest))).toEqual(sent(snapshot));
    }
  });
}
