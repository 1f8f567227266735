// What is made in pieces leaves the event loop to others, and yet is made in time when they are busy.

import { expect, test } from "bun:test";
import { type MadeInPieces, makeInPieces } from "../../../src/proxy/pieces.ts";

const PIECES = 300;
const PIECE_MS = 0.2;

/** How many turns the event loop has while all is made, if others take so long in each of them. */
async function turnsOfOthers(tookMs: number): Promise<number> {
  let turns = 0;
  let isDone = false;
  const turn = (): void => {
    if (isDone) return;
    turns++;
    spend(tookMs);
    setImmediate(turn);
  };
  setImmediate(turn);
  let left = PIECES;
  const part: MadeInPieces = {
    makeSome() {
      spend(PIECE_MS);
      return --left > 0;
    },
  };
  await makeInPieces([part]);
  isDone = true;
  return turns;
}

function spend(ms: number): void {
  for (const sinceMs = performance.now(); performance.now() - sinceMs < ms; );
}

test("others have a turn after every few pieces", async () => {
  expect(await turnsOfOthers(0)).toBeGreaterThan(PIECES / 8);
});

test("where their turns are long ours are longer", async () => {
  // With turns of half a millisecond they would have 100.
  expect(await turnsOfOthers(8)).toBeLessThan(PIECES / 5);
});
